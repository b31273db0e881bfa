//go:build linux

// Command peak is the measuring part of .ci/memory: it makes an image with one
// large layer, and runs commands under a limit on their peak resident memory.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peak:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "image":
		return makeImage(args[1], args[2])
	case len(args) > 3 && args[0] == "run":
		return runUnder(args[1], args[2], args[3:])
	case len(args) == 4 && args[0] == "server":
		return checkServer(args[1], args[2], args[3])
	}
	return errors.New("usage: peak image DIR SIZE | run LIMIT NAME COMMAND... | server LIMIT PID NAME")
}

// makeImage writes an OCI layout with one layer of random bytes.
func makeImage(dir, size string) error {
	gib, err := strconv.ParseInt(strings.TrimSuffix(size, "GiB"), 10, 64)
	if err != nil {
		return fmt.Errorf("size %q: want a number of GiB", size)
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "layer"))
	if err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.CopyN(io.MultiWriter(f, hash), rand.NewChaCha8([32]byte{1}), gib<<30)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	layer := oci.Descriptor{MediaType: "application/octet-stream", Digest: digest.NewDigest(digest.SHA256, hash), Size: n}
	if err := os.Rename(f.Name(), filepath.Join(blobs, layer.Digest.Encoded())); err != nil {
		return err
	}
	put := func(mediaType string, v any) (oci.Descriptor, error) {
		raw, err := json.Marshal(v)
		d := oci.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		return d, errors.Join(err, os.WriteFile(filepath.Join(blobs, d.Digest.Encoded()), raw, 0o644))
	}
	config, err := put("application/vnd.oci.empty.v1+json", struct{}{})
	if err != nil {
		return err
	}
	manifest, err := put(oci.MediaTypeOCIManifest, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest, "artifactType": "application/x.large",
		"config": config, "layers": []oci.Descriptor{layer},
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "v1"}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []oci.Descriptor{manifest}})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644),
	)
}

func runUnder(limit, name string, args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the system does not tell how much memory was used")
	}
	return judge(limit, name, int64(usage.Maxrss)*1024, time.Since(began))
}

// checkServer judges a process that is still running.
func checkServer(limit, pid, name string) error {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(status) {
		if rest, ok := strings.CutPrefix(string(line), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return err
			}
			return judge(limit, name, kib*1024, 0)
		}
	}
	return errors.New("the system does not tell how much memory is used")
}

func judge(limit, name string, peak int64, took time.Duration) error {
	allowed, err := strconv.ParseInt(limit, 10, 64)
	if err != nil {
		return err
	}
	fmt.Printf("%-26s peak %5.1f MB resident", name, float64(peak)/1e6)
	if took > 0 {
		fmt.Printf(", %.1f s", took.Seconds())
	}
	fmt.Println()
	if peak > allowed {
		return fmt.Errorf("%s used %d bytes at its peak; the limit is %d", name, peak, allowed)
	}
	return nil
}
