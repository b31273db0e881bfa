//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The clients, ours first. Versions are pinned, so that a table says what it
// compares with; skopeo is whatever Debian has.
var (
	allClients = []string{"ghcr", "crane", "oras", "regctl", "skopeo"}
	modules    = map[string]string{
		"crane":    "github.com/google/go-containerregistry/cmd/crane@v0.21.9",
		"oras":     "oras.land/oras/cmd/oras@v1.3.6",
		"regctl":   "github.com/regclient/regclient/cmd/regctl@v0.11.5",
		"registry": "github.com/distribution/distribution/v3/cmd/registry@v3.1.2",
	}
)

// setUp installs, builds and makes what is missing.
func (b *bench) setUp(ctx context.Context) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	tools := filepath.Join(b.dir, "bin")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	b.bin = map[string]string{"skopeo": "skopeo", "ghcr": b.ghcr}
	for name, module := range modules {
		path := filepath.Join(tools, name)
		b.bin[name] = path
		stamp := path + "-" + module[strings.LastIndex(module, "@")+1:]
		if _, err := os.Stat(stamp); err == nil {
			continue
		}
		b.say("go install %s", module)
		cmd := exec.CommandContext(ctx, "go", "install", module)
		cmd.Env = append(os.Environ(), "GOBIN="+tools, "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go install %s: %w\n%s", module, err, out)
		}
		if err := os.WriteFile(stamp, nil, 0o644); err != nil {
			return err
		}
	}
	if b.ghcr == "" {
		b.bin["ghcr"] = filepath.Join(tools, "ghcr")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.bin["ghcr"], "./cmd/ghcr").CombinedOutput(); err != nil {
			return fmt.Errorf("build ghcr (run this in the repository): %w\n%s", err, out)
		}
	}
	if err := b.debianPackages(ctx, "skopeo", "debootstrap"); err != nil {
		return err
	}
	return b.makeImages(ctx, b.imagesFor())
}

// imagesFor lists what the chosen rows need.
func (b *bench) imagesFor() []image {
	needed := map[string]bool{
		many.name:  b.rows.MatchString(specificationWork),
		index.name: b.rows.MatchString(emulatorWork),
		large.name: b.rows.MatchString(emulatorWork),
	}
	for _, r := range rows {
		for _, where := range places {
			if b.chosen(r, where) {
				needed[r.image.name] = true
				if r.first != nil {
					needed[r.first.name] = true
				}
			}
		}
	}
	needed[debian.name] = needed[debian.name] || needed[derived.name]
	return slices.DeleteFunc([]image{debian, derived, many, large, index}, func(img image) bool { return !needed[img.name] })
}

// debianPackages installs commands of the same name that are missing.
func (b *bench) debianPackages(ctx context.Context, names ...string) error {
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	b.say("apt-get install %s", strings.Join(missing, " "))
	script := "apt-get update -q && apt-get install -q -y --no-install-recommends " + strings.Join(missing, " ")
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s (this needs Debian, and root): %w\n%s", missing, err, out)
	}
	return nil
}

// startRegistry starts the CNCF registry with its data in a scratch directory.
func (b *bench) startRegistry(ctx context.Context, name string) (host string, stop func() error, err error) {
	data := filepath.Join(b.dir, "scratch", name)
	if err := os.MkdirAll(data, 0o755); err != nil {
		return "", nil, err
	}
	host, err = freePort()
	if err != nil {
		return "", nil, err
	}
	config := "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n" +
		"storage:\n  filesystem: {rootdirectory: " + data + ", maxthreads: 200}\n  maintenance: {uploadpurging: {enabled: false}}\n" +
		"http: {addr: '" + host + "'}\n"
	file := filepath.Join(b.dir, "scratch", name+".yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return "", nil, err
	}
	stop, err = b.startServer(ctx, host, b.bin["registry"], "serve", file)
	return host, stop, err
}

// startEmulator starts ghcr serve with a profile. Its limits on requests are off:
// what is measured is how long the work takes, not how often it may be done.
func (b *bench) startEmulator(ctx context.Context, name, profile string) (host string, stop func() error, err error) {
	host, err = freePort()
	if err != nil {
		return "", nil, err
	}
	data := filepath.Join(b.dir, "scratch", name)
	config := data + ".json"
	if err := os.MkdirAll(data, 0o755); err != nil {
		return "", nil, err
	}
	if err := os.WriteFile(config, []byte(`{"quirks": {"RegistryReadLimit": 0, "RegistryWriteLimit": 0}}`), 0o644); err != nil {
		return "", nil, err
	}
	stop, err = b.startServer(ctx, host, b.bin["ghcr"], "serve", "--profile", profile, "--addr", host, "--data", data, "--config", config)
	return host, stop, err
}

func (b *bench) startServer(ctx context.Context, host, name string, args ...string) (stop func() error, err error) {
	cmd := exec.Command(name, args...)
	var log strings.Builder
	cmd.Stderr = &log
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		return nil
	}
	for range 200 {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("%s ended: %w\n%s", name, err, log.String())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), stop())
		case <-time.After(25 * time.Millisecond):
		}
		if conn, err := net.Dial("tcp", host); err == nil {
			return stop, conn.Close()
		}
	}
	return nil, errors.Join(fmt.Errorf("%s does not listen on %s", name, host), stop())
}

// freePort returns a loopback address that nobody listens on at the moment.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
