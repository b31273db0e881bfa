package packages

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

// conditional answers as GitHub does: with an ETag that depends on the token, and
// with 304 where it is known.
type conditional struct {
	mu       sync.Mutex
	body     string
	plain    bool // no ETag
	full     int
	seen     int
	forToken bool
}

func (s *conditional) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	etag := fmt.Sprintf(`W/"%x"`, len(s.body))
	if s.forToken {
		etag = fmt.Sprintf(`W/"%x%s"`, len(s.body), r.Header.Get("Authorization")[len("Bearer ghp_"):])
	}
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(s.body))}
	if s.plain {
		return resp, nil
	}
	resp.Header.Set("ETag", etag)
	resp.Header.Set("Link", `<https://api.github.com/next>; rel="next"`)
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		resp.StatusCode, resp.Body = 304, http.NoBody
		return resp, nil
	}
	s.full++
	return resp, nil
}

func cached(t *testing.T, s *conditional, dir string, size int64, tokens ...string) *Client {
	t.Helper()
	var list []transport.Credential
	for _, token := range tokens {
		list = append(list, transport.Credential{Password: transport.NewSecret(token), Source: token})
	}
	tc, err := transport.New(transport.Options{Base: s, Credentials: transport.Pool{"api.github.com": list}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(tc, Options{CacheDir: dir, CacheSize: size})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *conditional) ask(t *testing.T, c *Client, path string) {
	t.Helper()
	a, err := c.get(context.Background(), request{op: "get", target: "x", url: DefaultBaseURL + path})
	if err != nil || string(a.body) != s.body {
		t.Errorf("got %q, %v", a.body, err)
	}
	if !s.plain && a.link == "" {
		t.Error("the links are lost")
	}
}

func TestCache(t *testing.T) {
	s := &conditional{body: "one"}
	dir := filepath.Join(t.TempDir(), "cache")
	c := cached(t, s, dir, 0, "ghp_a")
	for range 3 {
		s.ask(t, c, "/x")
	}
	if s.full != 1 || s.seen != 3 {
		t.Errorf("%d of %d answers were whole", s.full, s.seen)
	}
	s.ask(t, c, "/y")
	s.body = "another"
	s.ask(t, c, "/x")
	s.ask(t, cached(t, s, dir, 0, "ghp_a"), "/x")
	s.ask(t, cached(t, s, dir, 0, "ghp_b"), "/x")
	if s.full != 4 {
		t.Errorf("%d whole answers, want 4", s.full)
	}
}

// TestCacheOfSeveralTokens: the ETag depends on the token; each is kept beside the
// others.
func TestCacheOfSeveralTokens(t *testing.T) {
	s := &conditional{body: "one", forToken: true}
	dir := t.TempDir()
	c := cached(t, s, dir, 0, "ghp_a", "ghp_b")
	tokens, err := c.transport.Tokens(t.Context(), c.Host())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, token := range tokens {
			kept, known := c.recall(t.Context(), request{url: DefaultBaseURL + "/x"})
			resp, body, err := c.read(t.Context(), request{method: "GET", url: DefaultBaseURL + "/x", token: token.ID, etags: kept.etags})
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode == 304 && !known {
				t.Error("304 for what is not known")
			} else if resp.StatusCode == 200 {
				c.keep(kept, answer{body: body, link: resp.Header.Get("Link")}, resp.Header.Get("ETag"))
			}
		}
	}
	if s.full != 2 {
		t.Errorf("%d whole answers, want one for each token", s.full)
	}
}

// TestCacheIsNotTrusted: a file that is damaged in whatever way is as if it were
// not there.
func TestCacheIsNotTrusted(t *testing.T) {
	s := &conditional{body: strings.Repeat("some answer ", 100)}
	for name, damage := range map[string]func(data []byte) []byte{
		"empty":   func([]byte) []byte { return nil },
		"cut":     func(data []byte) []byte { return data[:len(data)/2] },
		"no end":  func(data []byte) []byte { return data[:len(data)-4] },
		"garbage": func([]byte) []byte { return []byte("\x1f\x8bgarbage") },
		"flipped": func(data []byte) []byte { data[len(data)/2] ^= 0x40; return data },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s.full = 0
			c := cached(t, s, dir, 0, "ghp_a")
			s.ask(t, c, "/x")
			files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
			for _, f := range files {
				data, _ := os.ReadFile(f)
				if err := os.WriteFile(f, damage(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.ask(t, c, "/x")
			s.ask(t, c, "/x")
			if s.full != 2 {
				t.Errorf("%d whole answers", s.full)
			}
		})
	}
	t.Run("swapped", func(t *testing.T) {
		dir := t.TempDir()
		c := cached(t, s, dir, 0, "ghp_a")
		s.ask(t, c, "/x")
		x, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
		data, _ := os.ReadFile(x[0])
		s.ask(t, c, "/y")
		all, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
		for _, f := range all {
			os.WriteFile(f, data, 0o600)
		}
		s.full = 0
		s.ask(t, c, "/y")
		if s.full != 1 {
			t.Error("the answer to another request was taken")
		}
	})
}

// TestCacheThatCannotBeWritten: everything works without it.
func TestCacheThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &conditional{body: "one"}
	c := cached(t, s, file, 0, "ghp_a")
	s.ask(t, c, "/x")
	s.ask(t, c, "/x")
	s.plain = true
	s.ask(t, cached(t, s, t.TempDir(), 0, "ghp_a"), "/x")
}

// TestCacheIsBounded: what was not used for the longest time goes.
func TestCacheIsBounded(t *testing.T) {
	random := make([]byte, 20<<10)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	s := &conditional{body: string(bytes.ToValidUTF8(random, []byte("?")))}
	dir := t.TempDir()
	const bound = 256 << 10
	c := cached(t, s, dir, bound, "ghp_a")
	old := time.Now().Add(-time.Hour)
	os.WriteFile(filepath.Join(dir, ".new-left"), nil, 0o600)
	os.Chtimes(filepath.Join(dir, ".new-left"), old.Add(-time.Hour), old.Add(-time.Hour))
	foreign := filepath.Join(dir, "backup.tar.gz")
	os.WriteFile(foreign, []byte("not ours"), 0o600)
	os.Chtimes(foreign, old, old)
	s.ask(t, c, "/favourite")
	for i := range 60 {
		s.ask(t, c, fmt.Sprint("/", i))
		files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
		for _, f := range files {
			at := old.Add(time.Duration(i) * time.Second)
			if info, err := os.Stat(f); err == nil && info.ModTime().After(at) {
				os.Chtimes(f, at, at)
			}
		}
		s.ask(t, c, "/favourite")
	}
	var total int64
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			total += info.Size()
		}
	}
	if total > bound*5/4 {
		t.Errorf("%d bytes, bound %d", total, bound)
	}
	before := s.full
	s.ask(t, c, "/favourite")
	s.ask(t, c, "/59")
	s.ask(t, c, "/0")
	if s.full != before+1 {
		t.Errorf("%d answers were fetched anew, want the oldest alone", s.full-before)
	}
	if _, err := os.Stat(filepath.Join(dir, ".new-left")); err == nil {
		t.Error("a file left aside is still there")
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file of somebody else is gone: %v", err)
	}
}

// TestCacheOfSeveralProcesses: they write the same files at the same time, and
// every answer is right.
func TestCacheOfSeveralProcesses(t *testing.T) {
	s := &conditional{body: "one"}
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		c := cached(t, s, dir, 4<<10, "ghp_a")
		wg.Go(func() {
			for i := range 30 {
				s.ask(t, c, fmt.Sprint("/", i%5))
			}
		})
	}
	wg.Wait()
}

func FuzzParseLinks(f *testing.F) {
	f.Add(`<https://api.github.com/organizations/1/packages?page=2>; rel="next", <https://api.github.com/x?page=7>; rel="last"`)
	f.Add(`<a>;rel=next;title="x,<y>", <b>; rel="prev first"`)
	f.Add(`<`)
	f.Fuzz(func(t *testing.T, header string) {
		for rel, target := range parseLinks(header) {
			if rel == "" || !strings.Contains(header, target) {
				t.Errorf("%q: %q", rel, target)
			}
		}
	})
}

func TestParseLinks(t *testing.T) {
	links := parseLinks(`<https://a/?page=2>; rel="next", <https://a/?page=9&x=1,2>; rel="last"; title="end", <https://a/>;rel=first`)
	for rel, want := range map[string]string{"next": "https://a/?page=2", "last": "https://a/?page=9&x=1,2", "first": "https://a/", "prev": ""} {
		if links[rel] != want {
			t.Errorf("%s is %q, want %q", rel, links[rel], want)
		}
	}
}
