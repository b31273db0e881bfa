package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/cassette"
)

// tapeChange is what tape diff prints of a difference.
type tapeChange struct {
	Kind        string         `json:"kind"` // removed, added, changed
	A           *int           `json:"a"`    // the interaction's number in each
	B           *int           `json:"b"`
	Method      string         `json:"method"`
	URL         string         `json:"url"`
	Differences []tapeMismatch `json:"differences"`
}

type tapeMismatch struct {
	Field string `json:"field"`
	A     string `json:"a"`
	B     string `json:"b"`
}

func (a *app) tapeDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two cassettes",
		Long: `List the requests that were made in one recording alone (- in A, + in B), and those
that were answered otherwise (~). Dates, request ids, upload sessions, tokens, ports of
this machine and the order make no difference. Exit code 8 where there is one.`,
		Example: "  ghcr tape diff tape tape",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			one, err := readTape(given[0])
			if err != nil {
				return err
			}
			defer one.Close()
			other, err := readTape(given[1])
			if err != nil {
				return err
			}
			defer other.Close()
			changes, err := cassette.Diff(one, other)
			if err != nil {
				return damaged(err)
			}
			if err := a.printChanges(changes); err != nil {
				return err
			}
			if len(changes) > 0 {
				return &found{fmt.Sprintf("%s and %s have %s", given[0], given[1], plural(len(changes), "difference"))}
			}
			return nil
		},
	}
}

// found says what was found, where it speaks for itself.
type found struct{ text string }

func (e *found) Error() string { return e.text }

func (e *found) Is(target error) bool { return target == errFindings }

func (a *app) printChanges(changes []cassette.Change) error {
	r := result{}
	all := make([]tapeChange, 0, len(changes))
	for _, c := range changes {
		i := c.A
		t := tapeChange{Kind: "changed", Differences: []tapeMismatch{}}
		mark := "~"
		switch {
		case c.B == nil:
			t.Kind, mark = "removed", "-"
		case c.A == nil:
			t.Kind, mark, i = "added", "+", c.B
		}
		if c.A != nil {
			t.A = &c.A.Seq
		}
		if c.B != nil {
			t.B = &c.B.Seq
		}
		t.Method, t.URL = i.Request.Method, i.Request.URL()
		r.text += fmt.Sprintf("%s %s %s", mark, t.Method, t.URL)
		if t.Kind != "changed" {
			r.text += " " + orDash(strconv.Itoa(i.Response.Status))
		}
		r.text += "\n"
		for _, d := range c.Differences {
			t.Differences = append(t.Differences, tapeMismatch{d.Field, d.Recorded, d.Live})
			r.text += fmt.Sprintf("    %s: %s -> %s\n", d.Field, orDash(d.Recorded), orDash(d.Live))
		}
		all = append(all, t)
		r.ids = append(r.ids, strconv.Itoa(i.Seq))
	}
	r.data = all
	return a.print(r)
}

func (a *app) tapeRedactCommand() *cobra.Command {
	var to string
	var secretsFile string
	var patterns, headers, query []string
	cmd := &cobra.Command{
		Use:   "redact DIR",
		Short: "Take more out of a cassette",
		Long: `Make the cassette anew without what it should not hold. What looks like a credential,
and each that the environment has, is looked for in any case. Bodies that are named by
their digest, such as layers, cannot be changed: of one that holds a secret the digest
alone is kept. The old cassette stays until the new one is whole and was checked. A
request that had it in it no longer matches at a replay. Prints the new digest.`,
		Example: "  ghcr tape redact tape --header X-Github-Request-Id --pattern 'build-[0-9]+'\n  ghcr tape redact tape --to clean --query page",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, given []string) error {
			r := cassette.Redaction{Headers: headers, Query: query}
			for _, p := range patterns {
				re, err := regexp.Compile(p)
				if err == nil && re.MatchString("") {
					err = errors.New("it matches between any two letters")
				}
				if err != nil {
					return usage("--pattern %q: %w", p, err)
				}
				r.Patterns = append(r.Patterns, re)
			}
			if secretsFile != "" {
				secrets, err := a.readLines(secretsFile)
				if err != nil {
					return err
				}
				r.Secrets = secrets
			}
			fill := func(aside string) (tapeSummary, error) { return a.redactTape(cmd, given[0], aside, r) }
			if to != "" {
				return a.besideTape(to, fill)
			}
			return a.replaceTape(given[0], fill)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "make the new cassette in `DIR`, and leave the old one as it is")
	cmd.Flags().StringVar(&secretsFile, "secrets", "", "`FILE` of values to take out, one a line, or - for stdin")
	cmd.Flags().StringArrayVar(&patterns, "pattern", nil, "`REGEXP` of what to take out of texts; may be repeated")
	cmd.Flags().StringSliceVar(&headers, "header", nil, "`NAME` of a header of answers to leave out; may be repeated")
	cmd.Flags().StringSliceVar(&query, "query", nil, "`NAME` of a parameter of URLs whose value to take out; may be repeated")
	return cmd
}

func (a *app) redactTape(cmd *cobra.Command, dir, aside string, r cassette.Redaction) (tapeSummary, error) {
	done, err := cassette.Redact(cmd.Context(), dir, aside, r)
	if err != nil {
		return tapeSummary{}, damaged(err)
	}
	if !a.flags.quiet {
		text := "ghcr: changed " + plural(done.Changed, "interaction")
		if done.Elided > 0 {
			text += fmt.Sprintf("; digests alone are left of bodies that cannot be changed: %d", done.Elided)
		}
		fmt.Fprintln(a.stderr, text)
	}
	return a.verifyTape(cmd, aside, cassette.Options{AllowWrongDigests: true, Secrets: r.Secrets})
}

// replaceTape puts a new cassette in the place of the old one when it is whole.
func (a *app) replaceTape(dir string, fill func(aside string) (tapeSummary, error)) (err error) {
	// The directory itself, not a link to it, nor "." which cannot be given a name.
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return usage("%s: no such directory", dir)
	}
	if err == nil {
		dir, err = filepath.Abs(real)
	}
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-*")
	if err != nil {
		return err
	}
	lost := false
	defer func() {
		if !lost {
			err = errors.Join(err, os.RemoveAll(work))
		}
	}()
	aside, old := filepath.Join(work, "new"), filepath.Join(work, "old")
	sum, err := fill(aside)
	if err != nil {
		return err
	}
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	if err := os.Rename(aside, dir); err != nil {
		back := os.Rename(old, dir)
		if lost = back != nil; lost {
			back = fmt.Errorf("the cassette is now %s: %w", old, back)
		}
		return errors.Join(err, back)
	}
	return a.printTape(sum)
}
