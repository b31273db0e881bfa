package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	ghcr "github.com/llm-dev-ops/ghcr"
)

// piped is an archive that comes from stdin or goes to stdout. Its members are read and
// written in an order that no pipe has, so it lies in a temporary file meanwhile.
type piped struct {
	dir  string
	file string
	out  io.Writer // nil unless it goes to stdout
}

// pipe puts a temporary file in the place of docker-archive:-, at either end. With a dry
// run nothing is written.
func (a *app) pipe(src, dst *ghcr.End, dryRun bool) (*piped, error) {
	p := &piped{}
	reads := src.Kind == ghcr.EndArchive && src.Path == "-"
	writes := dst.Kind == ghcr.EndArchive && dst.Path == "-"
	switch {
	case !reads && !writes:
		return p, nil
	case reads && writes:
		return nil, usage("from stdin to stdout: cat does that")
	case writes && (a.flags.json.set || a.flags.jq != "" || a.flags.template != ""):
		return nil, usage("stdout is for the archive: leave out --json, --jq and --template, or write a file")
	case writes && a.isTerminal(a.stdout):
		return nil, usage("an archive is nothing for a terminal: send stdout to a file or to docker load")
	case reads && terminal(a.stdin) != nil:
		return nil, usage("stdin is a terminal: send an archive to it, as docker save does")
	}
	var err error
	if p.dir, err = os.MkdirTemp("", "ghcr-archive-*"); err != nil {
		return nil, err
	}
	if reads {
		p.file = filepath.Join(p.dir, "stdin")
		src.Path = p.file
		if err := spool(p.file, a.stdin); err != nil {
			return nil, errors.Join(err, p.close(false))
		}
		return p, nil
	}
	p.file = filepath.Join(p.dir, "stdout")
	dst.Path = p.file
	if !dryRun {
		p.out = a.stdout
	}
	return p, nil
}

func spool(name string, r io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// close sends the archive on, if it is whole, and removes the file.
func (p *piped) close(whole bool) error {
	var err error
	if whole && p.out != nil {
		err = p.send()
	}
	if p.dir != "" {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

func (p *piped) send() error {
	f, err := os.Open(p.file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(p.out, f)
	return err
}
