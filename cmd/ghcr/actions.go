package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// inActions tells whether this runs as a step of a workflow.
func (a *app) inActions() bool { return a.getenv("GITHUB_ACTIONS") == "true" }

// appendTo adds to a file that the runner has made.
func appendTo(name, text string) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// escapeCommand keeps text from breaking out of the line of a workflow command.
func escapeCommand(text string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(text)
}

// cell is text of others in a table of Markdown: it can neither end its cell nor be taken
// for Markdown, HTML, or the name of a person.
func cell(s string) string {
	var b strings.Builder
	for _, r := range printable(s) {
		if strings.ContainsRune("\\`*_{}[]<>()#!|~@&", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
