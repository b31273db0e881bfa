//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"gopkg.in/dnaeon/go-vcr.v4/pkg/recorder"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// tape is what both kinds of recorder are.
type tape interface {
	RoundTrip(*http.Request) (*http.Response, error)
	Close() error
}

// tools are compared, each as it comes.
var tools = []struct {
	name, title string
	open        func(dir string, record bool) (tape, error)
}{
	{"go-vcr", "go-vcr VERSION", func(dir string, record bool) (tape, error) {
		mode := recorder.ModeReplayOnly
		if record {
			mode = recorder.ModeRecordOnly
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		r, err := recorder.New(filepath.Join(dir, "tape"), recorder.WithMode(mode), recorder.WithSkipRequestLatency(true))
		return vcr{r}, err
	}},
	{"cassette", "cassette", openCassette(false)},
	{"cassette-requests", "cassette, with requests kept", openCassette(true)},
}

type vcr struct{ *recorder.Recorder }

func (v vcr) Close() error { return v.Stop() }

func openCassette(requests bool) func(string, bool) (tape, error) {
	return func(dir string, record bool) (tape, error) {
		opts := cassette.Options{StoreRequestBodies: requests, Origin: "emulator", AllowUnused: true}
		if record {
			opts.Mode = cassette.ModeRecord
		}
		return cassette.Open(dir, opts)
	}
}

// The seeds of what is read and of what is sent.
const (
	seedAnswer  = 1
	seedRequest = 2
)

func blobPath(seed uint64, size int64) (string, error) {
	h := digest.SHA256.Digester()
	_, err := io.Copy(h.Hash(), ghcrtest.RandomContent(seed, size))
	return "/v2/acme/app/blobs/" + h.Digest().String(), err
}

// answers is the server: one large answer, a place for a large request, and as many
// small answers as are asked for.
func answers(size int64) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/acme/app/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		io.Copy(w, ghcrtest.RandomContent(seedAnswer, size))
	})
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("GET /small/{n}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"name":"acme/app","tags":["v%s"]}`, r.PathValue("n"))
	})
	return mux
}

// child does one thing with one tool, and prints its figures.
func child(args []string) error {
	if len(args) != 6 {
		return errors.New("usage: child TOOL record|replay|damaged DIR URL TRAFFIC N")
	}
	name, action, dir, url, traffic := args[0], args[1], args[2], args[3], args[4]
	n, err := strconv.ParseInt(args[5], 10, 64)
	if err != nil {
		return err
	}
	for _, tool := range tools {
		if tool.name != name {
			continue
		}
		// What is asked for is known before, so that no figure has it in it.
		ask, err := requests(url, traffic, n)
		if err != nil {
			return err
		}
		f, err := play(func() (tape, error) { return tool.open(dir, action == "record") }, ask)
		if action == "damaged" && err != nil {
			f.Error, err = err.Error(), nil
		}
		if err != nil {
			return err
		}
		if f.Peak, err = peak(); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(f)
	}
	return fmt.Errorf("there is no tool %q", name)
}

// play sends requests through a tape.
func play(open func() (tape, error), ask func(http.RoundTripper) error) (f figures, err error) {
	began := time.Now()
	lap := func(d *time.Duration) {
		*d = time.Since(began)
		began = time.Now()
	}
	t, err := open()
	lap(&f.Open)
	if err != nil {
		return f, err
	}
	err = ask(t)
	lap(&f.Work)
	err = errors.Join(err, t.Close())
	lap(&f.Save)
	return f, err
}

// some is how many requests there are of the traffic of that name, which are spread
// evenly.
const some = 200

// requests are those of one kind of traffic.
func requests(url, traffic string, n int64) (func(http.RoundTripper) error, error) {
	if traffic == "large" {
		path, err := blobPath(seedAnswer, n)
		return func(rt http.RoundTripper) error {
			if got, err := send(rt, "GET", url+path, nil, 0); err != nil || got != n {
				return fmt.Errorf("%d bytes of %d: %w", got, n, err)
			}
			_, err := send(rt, "POST", url+"/upload", ghcrtest.RandomContent(seedRequest, n), n)
			return err
		}, err
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	switch traffic {
	case "some":
		step := max(len(order)/some, 1)
		for i := range min(len(order), some) {
			order[i] = i * step
		}
		order = order[:min(n, some)]
	case "shuffled":
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	return func(rt http.RoundTripper) error {
		for _, i := range order {
			if _, err := send(rt, "GET", fmt.Sprint(url, "/small/", i), nil, 0); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func send(rt http.RoundTripper, method, url string, body io.Reader, size int64) (int64, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.ContentLength = size
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	return n, errors.Join(err, resp.Body.Close())
}

// peak is the most memory that this process had resident, in bytes.
func peak() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}

func sizeOf(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// flipByte changes one byte of the recorded answer, in the file of that name or else in
// the largest, to another letter, so that it is still text where it was.
func flipByte(dir, name string) error {
	var largest string
	var size int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && (info.Size() > size || d.Name() == name) {
			largest, size = path, info.Size()
		}
		if d.Name() == name {
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	part := make([]byte, 4096)
	at := size / 4 // go-vcr has both in one file, and the answer first
	if _, err := f.ReadAt(part, at); err != nil {
		return err
	}
	i := bytes.IndexFunc(part, func(r rune) bool { return r >= 'C' && r <= 'Z' })
	if i < 0 {
		return errors.New("no letter to change")
	}
	_, err = f.WriteAt([]byte{part[i] - 1}, at+int64(i))
	return err
}
