package ghcrtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// adminPrefix is where a server answers about itself. No repository can be there.
const adminPrefix = "/_sim/"

// maxAdminBody bounds what is sent as JSON.
const maxAdminBody = 8 << 20

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
	tarType    = "application/x-tar"
)

// serveAdmin answers what is asked about the server itself. No fault happens to it,
// and it is not logged.
func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	if s.sim == nil {
		answerAdmin(w, http.StatusNotFound, adminError{"the emulator's own API is off; ghcr serve --admin turns it on"})
		return
	}
	if status, reason := refusedAdmin(r); reason != "" {
		answerAdmin(w, status, adminError{reason})
		return
	}
	s.sim.ServeHTTP(w, r)
}

// refusedAdmin turns away web pages that somebody looks at on this machine: those of
// another origin, and those whose name was made to lead here.
func refusedAdmin(r *http.Request) (status int, reason string) {
	if _, pipe := connOf(r.Context()).(*pipeConn); !pipe {
		if from, _, err := net.SplitHostPort(r.RemoteAddr); err != nil || !isLoopback(from) {
			return http.StatusForbidden, "only this machine may ask"
		}
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if host != "localhost" && !isLoopback(host) {
			return http.StatusForbidden, fmt.Sprintf("the host %q is not a loopback address: ask at 127.0.0.1", host)
		}
	}
	if r.Header.Get("Origin") != "" {
		return http.StatusForbidden, "web pages may not ask"
	}
	return 0, ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

type adminError struct {
	Error string `json:"error"`
}

// adminHandler has the routes of docs/emulator.md.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern, body string, do func(w http.ResponseWriter, r *http.Request) error) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+adminPrefix+path, func(w http.ResponseWriter, r *http.Request) {
			if sent, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); body != "" && sent != body {
				answerAdmin(w, http.StatusUnsupportedMediaType, adminError{fmt.Sprintf("the body is %q: want Content-Type: %s", sent, body)})
				return
			}
			err := do(w, r)
			switch {
			case errors.Is(err, oci.ErrInvalid):
				answerAdmin(w, http.StatusBadRequest, adminError{err.Error()})
			case err != nil:
				answerAdmin(w, http.StatusInternalServerError, adminError{err.Error()})
			}
		})
	}
	act := func(path string, do func() error) {
		handle("POST "+path, "", func(w http.ResponseWriter, _ *http.Request) error {
			if err := do(); err != nil {
				return err
			}
			return s.answerSummary(w)
		})
	}
	handle("GET {$}", "", func(w http.ResponseWriter, _ *http.Request) error { return s.answerSummary(w) })
	handle("POST clock", jsonType, s.moveClock)
	handle("POST seed", tarType, s.seed)
	handle("PUT repository", jsonType, s.takeRepository)
	document := func(pattern string, take func(query url.Values, document []byte) error) {
		handle(pattern, jsonType, func(w http.ResponseWriter, r *http.Request) error {
			raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBundle))
			if err != nil {
				return oci.Invalid("%s: %w", pattern, err)
			}
			if err := take(r.URL.Query(), raw); err != nil {
				return err
			}
			return s.answerSummary(w)
		})
	}
	document("POST attestations", func(q url.Values, bundle []byte) error { return s.AddAttestation(q.Get("repository"), bundle) })
	document("POST sarif", func(q url.Values, sarif []byte) error {
		return s.UploadSARIF(SARIFUpload{Repository: q.Get("repository"), SARIF: sarif, Commit: q.Get("commit"), Ref: q.Get("ref")})
	})
	document("POST dependabot", func(q url.Values, alert []byte) error { return s.AddDependabotAlert(q.Get("repository"), alert) })
	document("POST advisories", func(_ url.Values, record []byte) error { return s.AddAdvisory(record) })
	document("POST reports", func(q url.Values, report []byte) error {
		return s.AddVulnerabilityReport(q.Get("repo"), q.Get("ref"), report)
	})
	handle("GET snapshot", "", s.sendSnapshot)
	handle("PUT snapshot", tarType, s.takeSnapshot)
	handle("GET faults", "", s.listRules)
	handle("POST faults", jsonType, s.addRules)
	handle("PUT faults", jsonType, s.replaceRules)
	handle("DELETE faults", "", func(w http.ResponseWriter, _ *http.Request) error { s.ClearFaults(); return s.answerSummary(w) })
	handle("GET faults/catalogue", "", func(w http.ResponseWriter, _ *http.Request) error {
		answerAdmin(w, http.StatusOK, Catalogue())
		return nil
	})
	handle("GET faults/log", "", func(w http.ResponseWriter, _ *http.Request) error { return answerLines(w, s.Faults()) })
	handle("DELETE faults/log", "", func(w http.ResponseWriter, _ *http.Request) error { s.ResetFaultLog(); return s.answerSummary(w) })
	handle("GET requests", "", func(w http.ResponseWriter, _ *http.Request) error { return answerLines(w, s.Requests()) })
	handle("DELETE requests", "", func(w http.ResponseWriter, _ *http.Request) error { s.ResetRequests(); return s.answerSummary(w) })
	act("expire-tokens", func() error { s.ExpireTokens(); return nil })
	act("expire-signed-urls", func() error { s.ExpireSignedURLs(); return nil })
	act("drop-sessions", func() error { s.DropSessions(); return nil })
	act("reset", s.Reset)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerAdmin(w, http.StatusNotFound, adminError{fmt.Sprintf("there is no %s %s: docs/emulator.md lists what there is", r.Method, r.URL.Path)})
	})
	return mux
}

func answerAdmin(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func answerLines[T any](w http.ResponseWriter, list []T) error {
	w.Header().Set("Content-Type", ndjsonType)
	enc := json.NewEncoder(w)
	for _, v := range list {
		if err := enc.Encode(v); err != nil {
			panic(http.ErrAbortHandler) // nobody reads on
		}
	}
	return nil
}

// answerSummary tells how the server stands.
func (s *Server) answerSummary(w http.ResponseWriter) error {
	s.mu.Lock()
	summary := map[string]any{
		"now": s.now().UTC(), "requests": s.requests, "uploads": len(s.sessions), "faults": len(s.faults), "happened": len(s.fired),
	}
	s.mu.Unlock()
	summary["packages"] = len(s.store.repositories())
	answerAdmin(w, http.StatusOK, summary)
	return nil
}

func (s *Server) moveClock(w http.ResponseWriter, r *http.Request) error {
	var move struct {
		Advance duration `json:"advance"`
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&move); err != nil {
		return oci.Invalid("move the clock: %w", err)
	}
	s.Advance(time.Duration(move.Advance))
	return s.answerSummary(w)
}

// seed takes a layout; the query says into which repository, and under which tag.
func (s *Server) seed(w http.ResponseWriter, r *http.Request) error {
	if err := s.AddLayout(r.URL.Query().Get("repo"), r.URL.Query().Get("tag"), r.Body); err != nil {
		return err
	}
	return s.answerSummary(w)
}

func (s *Server) takeRepository(w http.ResponseWriter, r *http.Request) error {
	var repository Repository
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&repository); err != nil {
		return oci.Invalid("set up a repository: %w", err)
	}
	if err := s.SetRepository(repository); err != nil {
		return err
	}
	return s.answerSummary(w)
}

func (s *Server) sendSnapshot(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", tarType)
	if s.Snapshot(w) != nil {
		panic(http.ErrAbortHandler) // a short file must not look like a whole one
	}
	return nil
}

func (s *Server) takeSnapshot(w http.ResponseWriter, r *http.Request) error {
	if err := s.Restore(r.Body); err != nil {
		return err
	}
	return s.answerSummary(w)
}

// ruleStatus is a fault that was injected, and how often it happened.
type ruleStatus struct {
	Name     string `json:"name,omitempty"`
	What     string `json:"what"`
	Happened int    `json:"happened"`
}

func (s *Server) listRules(w http.ResponseWriter, _ *http.Request) error {
	s.mu.Lock()
	list := []ruleStatus{}
	for _, f := range s.faults {
		list = append(list, ruleStatus{f.Name, f.what(), f.used})
	}
	s.mu.Unlock()
	answerAdmin(w, http.StatusOK, list)
	return nil
}

func (s *Server) addRules(w http.ResponseWriter, r *http.Request) error {
	faults, err := readRules(w, r)
	if err != nil {
		return err
	}
	s.Inject(faults...)
	return s.listRules(w, r)
}

func (s *Server) replaceRules(w http.ResponseWriter, r *http.Request) error {
	faults, err := readRules(w, r)
	if err != nil {
		return err
	}
	s.ClearFaults()
	s.Inject(faults...)
	return s.listRules(w, r)
}

func readRules(w http.ResponseWriter, r *http.Request) ([]Fault, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if err != nil {
		return nil, oci.Invalid("faults: %w", err)
	}
	return ParseFaults(raw)
}
