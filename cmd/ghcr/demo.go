package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on a throw-away emulated GHCR",
		Long: `Push, list, copy, retag, untag, delete, prune, restore and pull back a real image for two
platforms, with its attestations and a signature, on an emulated GHCR that is thrown
away afterwards. Each command is printed with its real output. No network and no
account. With --record its commands share one cassette, from which --replay shows it
again without the emulator. ghcr demo prune is a longer tour of retention.`,
		Example: "  ghcr demo",
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context()) },
	}
	cmd.AddCommand(a.demoPruneCommand())
	return cmd
}

// demoStep is a command of the tour and why it is there.
type demoStep struct {
	why  string
	args []string
	code int // that it ends with
}

func (a *app) demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "ghcr-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a.emulated = true
	if err := a.openTape(); err != nil {
		return err
	}
	image := demoImage()
	if err := image.WriteLayout(filepath.Join(dir, "build"), "v1"); err != nil {
		return err
	}
	draft := ghcrtest.NewImage("linux/amd64", ghcrtest.Layer(map[string]string{"draft": "of a pull request\n"}))
	if err := draft.WriteLayout(filepath.Join(dir, "draft"), "v1"); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "A tour on an emulated GHCR. Every line that begins with $ is a command that you could type;")
	fmt.Fprintln(a.stdout, "here they run with --sim, so nothing leaves this machine.")
	d := image.Digest().String()
	for _, step := range []demoStep{
		{why: "An image for two platforms was built. Push it: the index, both images, their attestations, the signature.",
			args: []string{"push", "oci:build:v1", "acme/app:v1", "--recursive"}},
		{why: "Push it again: one request, because the registry has it.", args: []string{"push", "oci:build:v1", "acme/app:v1"}},
		{why: "What is there?", args: []string{"ls", "acme/app"}},
		{why: "What is it made of? Attestations are named for what they vouch for.", args: []string{"tree", "acme/app:v1"}},
		{why: "Promote it to another repository. No layer is moved: the registry mounts them.", args: []string{"cp", "acme/app:v1", "acme/prod:v1", "--recursive"}},
		{why: "Give it more tags. The digest stays.", args: []string{"tag", "acme/prod:v1", "stable", "latest"}},
		{why: "Which digest is stable?", args: []string{"digest", "acme/prod:stable"}},
		{why: "Read one file out of the image.", args: []string{"cat", "acme/prod:stable", "/app/motd", "--platform", "linux/amd64"}},
		{why: "Pull it back, as a layout and as a file for docker load.", args: []string{"pull", "acme/prod:stable", "oci:back", "--recursive"}},
		{why: "", args: []string{"pull", "acme/prod:stable", "docker-archive:app.tar"}},
		{why: "Take a tag off. GHCR has no such operation; the image and its other tags stay.", args: []string{"untag", "acme/prod:latest", "--yes"}},
		{why: "Delete an image: what belongs to it alone goes along, and what others need stays.", args: []string{"push", "oci:draft:v1", "acme/app:pr-81"}},
		{why: "", args: []string{"rm", "acme/app:v1", "--yes", "--undo", "undo.json"}},
		{why: "Untagged is not unused, and deleted is not lost.", args: []string{"restore", "--from", "undo.json"}},
		{why: "", args: []string{"digest", "acme/app:v1"}},
		{why: "And from the file to a third repository: the digest has survived all of it.", args: []string{"push", "docker-archive:app.tar", "acme/loaded:v1"}},
		{why: "", args: []string{"digest", "acme/loaded:v1"}},
		{why: "Plan what may go, by rules: nothing is changed, and what an image needs is never among it.",
			args: []string{"prune", "acme/app", "--tags", "pr-*", "--max-percent", "50", "--save-plan", "plan.json"}},
		{args: []string{"prune", "--plan", "plan.json", "--explain", "v1"}},
		{why: "Carry out what was looked at, see whether all is well, and take it back.", args: []string{"prune", "--plan", "plan.json", "--apply", "--yes", "--journal", "prune.journal"}},
		{args: []string{"check", "acme/app:v1"}},
		{args: []string{"restore", "--from", "prune.journal"}},
	} {
		if err := a.demoRun(ctx, dir, step); err != nil {
			return err
		}
	}
	n, err := sameFiles(filepath.Join(dir, "build", "blobs", "sha256"), filepath.Join(dir, "back", "blobs", "sha256"))
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\nWhat came back was compared with what was built, bit for bit: %d files, all the same.\nThe image is %s.\n", n, d)
	return nil
}

// demoRun prints a command and runs it, as if typed in dir.
func (a *app) demoRun(ctx context.Context, dir string, step demoStep) error {
	if step.why != "" {
		fmt.Fprintf(a.stdout, "\n# %s\n", step.why)
	}
	words := make([]string, len(step.args))
	for i, arg := range step.args {
		words[i] = shellWord(arg)
	}
	fmt.Fprintf(a.stdout, "$ ghcr %s\n", strings.Join(words, " "))
	var given []string
	if !a.replays() {
		given = []string{"--sim", filepath.Join(dir, "sim")}
	}
	for _, arg := range step.args {
		for _, scheme := range []string{"oci:", "docker-archive:"} {
			if rest, ok := strings.CutPrefix(arg, scheme); ok {
				arg = scheme + filepath.Join(dir, rest)
			}
		}
		if slices.Contains([]string{".json", ".yaml", ".journal"}, filepath.Ext(arg)) {
			arg = filepath.Join(dir, arg)
		}
		given = append(given, arg)
	}
	out := withoutDir(a.stdout, dir)
	typed := &app{stdin: strings.NewReader(""), stdout: out, stderr: out, getenv: a.getenv, tables: true, network: a.network, tape: a.tape, lent: true}
	code := typed.run(ctx, given)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if code != step.code {
		return fmt.Errorf("demo: ghcr %s ended with exit code %d", step.args[0], code)
	}
	return nil
}

// withoutDir leaves the name of the temporary directory out of what is printed.
func withoutDir(w io.Writer, dir string) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		_, err := w.Write(bytes.ReplaceAll(p, []byte(dir+string(filepath.Separator)), nil))
		return len(p), err
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// demoImage is an image such as BuildKit makes, signed.
func demoImage() *ghcrtest.Image {
	base := ghcrtest.Layer(map[string]string{
		"etc/": "", "etc/os-release": "NAME=demo\n", "usr/": "", "usr/share/": "",
		"usr/share/words": strings.Repeat("registries hold what people build\n", 2000),
	})
	platform := func(name string) *ghcrtest.Image {
		app := ghcrtest.Layer(map[string]string{"app/": "", "app/motd": "Hello from " + name + ".\n", "app/version": "1.0.0\n"})
		return ghcrtest.NewImage(name, base, app)
	}
	amd, arm := platform("linux/amd64"), platform("linux/arm64")
	index := ghcrtest.Attested(amd, arm)
	ghcrtest.Sign(index)
	ghcrtest.Refer(index, "application/spdx+json", `{"spdxVersion":"SPDX-2.3","name":"demo"}`)
	return index
}

// sameFiles compares each file of one directory with its like in another.
func sameFiles(dir, other string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		want, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return 0, err
		}
		got, err := os.ReadFile(filepath.Join(other, e.Name()))
		if err != nil {
			return 0, fmt.Errorf("demo: it did not come back: %w", err)
		}
		if !bytes.Equal(got, want) {
			return 0, fmt.Errorf("demo: %s came back changed", e.Name())
		}
	}
	return len(entries), nil
}
