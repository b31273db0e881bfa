// Command ghcr pushes, pulls, copies and tags images on GitHub Container Registry
// and other OCI registries, and brings an emulated GHCR along.
//
// One file holds one command; app.go holds what they share, and output.go how
// results are printed. Results go to stdout and everything else to stderr.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/transport"
)

func main() {
	// A write to a pipe that nobody reads is an error then, and the command ends in order:
	// else it would be killed with recordings, temporary files and the emulator's state open.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// run is the whole command, apart from the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	// The first ctrl-C ends the work in order; a second one ends the process.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	return (&app{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}).run(ctx, args)
}

// run runs one command and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	working, stop := context.WithCancel(ctx)
	defer stop()
	out := &results{out: a.stdout, gone: stop}
	a.stdout = out
	a.stderr = &notices{out: a.stderr}
	a.stdin = &input{ctx: working, in: a.stdin}
	root := a.root()
	root.SetArgs(args)
	err := a.closeTape(ctx, root.ExecuteContext(working))
	err = errors.Join(err, a.close())
	switch lost := out.failed(); {
	case errors.Is(lost, syscall.EPIPE) && (err == nil || errors.Is(err, lost) || errors.Is(err, context.Canceled)):
		return exitUnread
	case lost != nil && !errors.Is(err, lost):
		err = errors.Join(err, lost)
	}
	code := a.exitCode(ctx, err)
	switch code {
	case 0:
	case exitInterrupted:
		fmt.Fprintln(a.stderr, "ghcr: interrupted")
	default:
		a.report(err)
	}
	return code
}

// exitCode is that of a command that ended with an error, or with none.
func (a *app) exitCode(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitCode(err)
}

// The exit codes, which scripts go by. `ghcr help exit-codes` explains them.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitPartly      = 3
	exitPermission  = 4
	exitNotFound    = 5
	exitRateLimited = 6
	exitIntegrity   = 7
	exitFindings    = 8
	exitUnknown     = 9
	exitInterrupted = 130
	exitUnread      = 141 // what a shell says of a program that a closed pipe has ended
)

// errPartly says that some of several things were done.
var errPartly = errors.New("not everything was done")

// errFindings says that something was looked at and is not as it should be.
var errFindings = errors.New("not all is well")

// errUnknown says that it is not known whether all is well, where that was asked.
var errUnknown = errors.New("it is not known whether all is well")

// exitError is an error whose exit code its class does not tell.
type exitError struct {
	error
	code int
}

func (e *exitError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var own *exitError
	var partial *ghcr.PartialError
	var unused *cassette.UnusedError
	var unmet *attest.PolicyError
	var unsigned *unsignedError
	switch {
	case errors.Is(err, cassette.ErrNotRecorded), errors.As(err, &unused):
		// Before all others: it says nothing about what the command is for.
		return exitFailure
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, errFindings), isSafetyLimit(err):
		return exitFindings
	case errors.Is(err, errUnknown):
		return exitUnknown
	case errors.Is(err, errPartly), errors.As(err, &partial):
		return exitPartly
	case errors.As(err, &unmet), errors.As(err, &unsigned):
		return unverifiedCode(err)
	case errors.Is(err, ghcr.ErrInvalid):
		// Before all others: what a layout on the command line lacks is bad input too.
		return exitUsage
	case errors.Is(err, ghcr.ErrNotFound):
		return exitNotFound
	case errors.Is(err, ghcr.ErrRateLimited):
		return exitRateLimited
	case errors.Is(err, ghcr.ErrUnauthorized), errors.Is(err, ghcr.ErrDenied):
		return exitPermission
	case errors.Is(err, ghcr.ErrIntegrity):
		return exitIntegrity
	}
	return exitFailure
}

// isSafetyLimit tells whether a plan was refused for what it is, and nothing was tried.
func isSafetyLimit(err error) bool {
	for _, limit := range []error{ghcr.PlanExpired, ghcr.PlanEarly, ghcr.PlanUnconfirmed, ghcr.PlanRefused} {
		if errors.Is(err, limit) && !errors.Is(err, ghcr.ErrInvalid) {
			return true
		}
	}
	return false
}

// report prints an error and what to do about it.
func (a *app) report(err error) {
	text, hint, ok := a.tapeError(err)
	if !ok {
		text, hint = err.Error(), cmp.Or(verifyHint(err), ghcr.Hint(err))
	}
	if a.flags.json.set {
		a.reportJSON(err, text, hint)
		return
	}
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, printable(strings.TrimSuffix(line, "\n")))
	}
	text = strings.Join(lines, "\n")
	fmt.Fprintf(a.stderr, "ghcr: error: %s\n", text)
	for line := range strings.Lines(hint) {
		fmt.Fprintf(a.stderr, "ghcr: hint: %s\n", strings.TrimSpace(line))
	}
	if a.inActions() {
		fmt.Fprintf(a.stderr, "::error title=ghcr::%s\n", escapeCommand(text))
	}
}

func (a *app) reportJSON(err error, text, hint string) {
	answer := struct {
		Class     string `json:"class"`
		Message   string `json:"message"`
		Hint      string `json:"hint,omitempty"`
		Status    int    `json:"status,omitempty"`
		RequestID string `json:"request_id,omitempty"`
	}{Class: errorClass(err), Message: text, Hint: hint}
	var e *transport.Error
	if errors.As(err, &e) {
		answer.Status, answer.RequestID = e.Status, e.RequestID
	}
	json.NewEncoder(a.stderr).Encode(map[string]any{"error": answer})
}

func errorClass(err error) string {
	return map[int]string{
		exitFailure: "failure", exitUsage: "usage", exitPartly: "partial", exitPermission: "permission",
		exitNotFound: "not-found", exitRateLimited: "rate-limited", exitIntegrity: "integrity", exitFindings: "findings", exitUnknown: "unknown",
	}[exitCode(err)]
}
