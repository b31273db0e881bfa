package transfer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Memory remembers which repository of a registry has which blob or manifest, so
// that a later push can mount instead of upload and need not ask about what it
// has put there itself. What it says may be out of date: it is only relied on
// where the registry corrects it.
//
// A nil Memory remembers nothing. It is safe for concurrent use, and several
// processes may use one directory.
type Memory struct {
	dir string

	mu    sync.Mutex
	hosts map[string]*hostMemory
}

// hostMemory is what is known of one host.
type hostMemory struct {
	repos map[oci.Digest][]string // the repository noted last comes last
	log   string                  // file, or empty
}

// Limits of what is kept of one host: lines in its file, and repositories that
// have one blob.
const (
	maxMemory    = 1 << 16
	maxPerDigest = 8
)

// OpenMemory keeps what it remembers in dir, one file for each host, or without a
// dir only as long as the process runs. Files are read when a host is first met.
func OpenMemory(dir string) *Memory {
	return &Memory{dir: dir, hosts: map[string]*hostMemory{}}
}

// holds tells whether the repository was last known to have the content.
func (m *Memory) holds(host, repository string, d oci.Digest) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.host(host).repos[d], repository)
}

// where returns the repositories of the host that were known to have the content,
// the one met last first.
func (m *Memory) where(host string, d oci.Digest) []string {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	repos := slices.Clone(m.host(host).repos[d])
	slices.Reverse(repos)
	return repos
}

// note remembers that the repository has the content. That it cannot be written
// down is no error: it costs a later push time, and this one nothing.
func (m *Memory) note(host, repository string, content ...oci.Digest) {
	if m == nil || repository == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.host(host)
	var lines bytes.Buffer
	for _, d := range content {
		if slices.Contains(h.repos[d], repository) {
			continue
		}
		h.add(d, repository)
		lines.WriteString("+ " + d.String() + " " + repository + "\n")
	}
	h.append(lines.Bytes())
}

// forget takes back that the repository has the content.
func (m *Memory) forget(host, repository string, content ...oci.Digest) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.host(host)
	var lines bytes.Buffer
	for _, d := range content {
		if h.remove(d, repository) {
			lines.WriteString("- " + d.String() + " " + repository + "\n")
		}
	}
	h.append(lines.Bytes())
}

func (h *hostMemory) add(d oci.Digest, repository string) {
	repos := append(h.repos[d], repository)
	if len(repos) > maxPerDigest {
		repos = repos[1:]
	}
	h.repos[d] = repos
}

func (h *hostMemory) remove(d oci.Digest, repository string) bool {
	i := slices.Index(h.repos[d], repository)
	if i < 0 {
		return false
	}
	h.repos[d] = slices.Delete(h.repos[d], i, i+1)
	return true
}

// append writes whole lines in one call, which the system keeps apart from those
// of other processes.
func (h *hostMemory) append(lines []byte) {
	if h.log == "" || len(lines) == 0 || os.MkdirAll(filepath.Dir(h.log), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(h.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	f.Write(lines)
	f.Close()
}

// host returns the memory of a host, read from its file at the first call.
func (m *Memory) host(name string) *hostMemory {
	if h := m.hosts[name]; h != nil {
		return h
	}
	h := &hostMemory{repos: map[oci.Digest][]string{}}
	m.hosts[name] = h
	if m.dir == "" {
		return h
	}
	key := sha256.Sum256([]byte(name))
	h.log = filepath.Join(m.dir, hex.EncodeToString(key[:8])+".log")
	data, err := os.ReadFile(h.log)
	if err != nil {
		return h
	}
	lines := 0
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); lines++ {
		op, rest, _ := strings.Cut(s.Text(), " ")
		d, repository, ok := strings.Cut(rest, " ")
		if !ok || oci.CheckName(repository) != nil {
			continue // a line that was cut short
		}
		h.remove(oci.Digest(d), repository)
		if op == "+" {
			h.add(oci.Digest(d), repository)
		}
	}
	if lines > maxMemory {
		// Old news is worth little; begin again.
		os.Remove(h.log)
	}
	return h
}
