package ghcr_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
)

// lethal is a network that is there until the process dies: at the n-th request the
// journal is what the disk has, and nothing is sent any more, or the request is and its
// answer is not seen.
type lethal struct {
	base    http.RoundTripper
	journal string
	served  bool

	mu   sync.Mutex
	left int
	disk []byte // of the journal when it died; nil before
}

var errDead = errors.New("the process is dead")

func (l *lethal) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.disk != nil {
		return nil, errDead
	}
	if l.left--; l.left >= 0 {
		return l.base.RoundTrip(r)
	}
	l.disk, _ = os.ReadFile(l.journal)
	if l.disk == nil {
		l.disk = []byte{}
	}
	if l.served {
		if resp, err := l.base.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
	}
	return nil, errDead
}

// smallPrunable is a package of which some goes, in few requests: an index with a signature,
// and a tag of an image that stays.
func smallPrunable(t *testing.T, opts ghcrtest.Options) (p *prunable, plan *retain.Plan) {
	p = &prunable{sandbox: newSandbox(t, opts)}
	shared := image(1, 1)
	p.old, p.kept, p.other = ghcrtest.NewIndex(shared, image(2, 1)), ghcrtest.NewIndex(shared), image(3, 1)
	ghcrtest.Sign(p.old)
	for tag, img := range map[string]*ghcrtest.Image{"v1": p.old, "v3": p.kept, "latest": p.kept, "main": p.other, "pr": p.other} {
		p.add("acme/app", tag, img)
	}
	time.Sleep(time.Hour)
	return p, p.planOf("acme/app", "v1", "pr")
}

// once checks that no version was asked to be deleted twice.
func (s *sandbox) once() {
	s.t.Helper()
	asked := map[string]int{}
	for _, r := range s.log() {
		if r.Role == ghcrtest.RoleAPI && r.Method == "DELETE" {
			if asked[r.Path]++; asked[r.Path] > 1 {
				s.t.Errorf("%s was asked for %d times", r.Path, asked[r.Path])
			}
		}
	}
}

// TestPruneKilledAtAnyRequest: a process that dies leaves nothing broken, and the next
// ends what it began, with nothing done twice and nothing left.
func TestPruneKilledAtAnyRequest(t *testing.T) {
	died, resumed := 0, 0
	for n := 0; ; n++ {
		over := false
		for _, served := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p, plan := smallPrunable(t, ghcrtest.Options{})
				net := &lethal{base: p.server.Transport(), journal: t.TempDir() + "/journal", served: served, left: n}
				client, err := ghcr.New(ghcr.Options{Base: net, Credentials: login})
				if err != nil {
					t.Fatal(err)
				}
				_, err = client.ApplyPrune(t.Context(), plan, ghcr.ApplyOptions{Journal: net.journal})
				if net.disk == nil {
					over = true
					if err != nil {
						t.Errorf("nothing went wrong: %v", err)
					}
					return
				}
				died++
				p.stay()
				journal := t.TempDir() + "/found"
				if err := os.WriteFile(journal, net.disk, 0o600); err != nil {
					t.Fatal(err)
				}
				p.client = p.newClient("")
				var report *ghcr.PruneReport
				if len(net.disk) == 0 { // nothing was begun
					if w := p.writes(); len(w) != 0 {
						t.Errorf("request %d: nothing is written down, and sent was %+v", n, w)
					}
					report, err = p.apply(plan, ghcr.ApplyOptions{})
				} else {
					resumed++
					report, err = p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{})
				}
				if err != nil || report.Count(ghcr.Done) != len(plan.Actions) {
					p.describe(report, err)
					t.Errorf("request %d, served %v: not all is done in the end", n, served)
				}
				p.truthful("acme/app", report)
				p.stay()
				p.once()
				if d := p.resolves("acme/app", "pr"); d != "" {
					t.Errorf("request %d, served %v: pr is on %s", n, served, d)
				}
				time.Sleep(time.Hour)
				if left := len(p.inventory("acme/app").Versions); left != 3 {
					t.Errorf("request %d, served %v: %d versions are left", n, served, left)
				}
			})
		}
		if over {
			break
		}
	}
	if died < 50 || resumed < 30 {
		t.Errorf("only %d runs died, and %d were taken up", died, resumed)
	}
}

// TestPruneBrokenOffAtAnyRequest: what is under way ends, the rest is left, and the next
// run does it.
func TestPruneBrokenOffAtAnyRequest(t *testing.T) {
	broken := 0
	for n := range 60 {
		synctest.Test(t, func(t *testing.T) {
			p, plan := smallPrunable(t, ghcrtest.Options{})
			journal := t.TempDir() + "/journal"
			ctx, off := p.breakOff(n)
			report, err := p.client.ApplyPrune(ctx, plan, ghcr.ApplyOptions{Journal: journal})
			if off() && err != nil {
				broken++
			}
			if report != nil && report.Count(ghcr.Failed)+report.Count(ghcr.Unknown) > 0 {
				p.describe(report, err)
				t.Errorf("request %d: what was not sent is left, and what was is known", n)
			}
			p.truthful("acme/app", report)
			p.stay()
			if _, statErr := os.Stat(journal); statErr != nil {
				return
			}
			if report, err = p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{}); err != nil {
				p.describe(report, err)
				t.Errorf("request %d: %v", n, err)
			}
			p.truthful("acme/app", report)
			p.stay()
			p.once()
		})
	}
	if broken < 20 {
		t.Errorf("only %d runs were broken off", broken)
	}
}

// TestJournalCutAnywhere: what is not in the journal is looked at, and so its end does
// not matter. Within its plan it is no journal yet.
func TestJournalCutAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, plan := smallPrunable(t, ghcrtest.Options{})
		journal := t.TempDir() + "/journal"
		if report, err := p.apply(plan, ghcr.ApplyOptions{Journal: journal}); err != nil {
			p.describe(report, err)
			t.Fatal(err)
		}
		whole, err := os.ReadFile(journal)
		if err != nil {
			t.Fatal(err)
		}
		head := bytes.IndexByte(whole, '\n') + 1
		for n := range len(whole) {
			if err := os.WriteFile(journal, whole[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := ghcr.ReadJournal(journal)
			if n < head {
				if !errors.Is(err, ghcr.ErrInvalid) {
					t.Fatalf("cut at %d: %v", n, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			if (n-head)%97 != 0 {
				continue // the same, and slow
			}
			report, err := p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{})
			if err != nil {
				p.describe(report, err)
				t.Fatalf("cut at %d, %+v", n, j.Steps)
			}
			p.truthful("acme/app", report)
			p.stay()
		}
		// In the middle it may not be damaged.
		at := bytes.IndexByte(whole[head:], '\n') + head
		damaged := slices.Concat(whole[:at-5], []byte("\x00\x00"), whole[at:])
		if err := os.WriteFile(journal, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ghcr.ReadJournal(journal); !errors.Is(err, ghcr.ErrIntegrity) {
			t.Errorf("damaged: %v", err)
		}
	})
}

// TestResumeAfterThePlanHasExpired: what was begun in time may be ended later. What it
// does is checked all the same.
func TestResumeAfterThePlanHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, plan := smallPrunable(t, ghcrtest.Options{})
		journal := t.TempDir() + "/journal"
		p.apply(plan, ghcr.ApplyOptions{Journal: journal, MaxDeletes: 1})
		time.Sleep(48 * time.Hour)
		needs := ghcrtest.NewIndex(p.old.Children[1])
		p.add("acme/app", "new", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
		report, err := p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{})
		var changed *ghcr.ChangedError
		if !errors.As(err, &changed) {
			p.describe(report, err)
			t.Errorf("error %v", err)
		}
		p.truthful("acme/app", report)
		p.holds("acme/app", "new", needs)
		if report.Count(ghcr.Done) != len(plan.Actions)-1 {
			p.describe(report, err)
			t.Error("the others are not done")
		}
	})
}

// TestJournalComesFirst: nothing is changed that can't be written down, and no file is
// written over.
func TestJournalComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, plan := smallPrunable(t, ghcrtest.Options{})
		there := t.TempDir() + "/there"
		if err := os.WriteFile(there, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{there, t.TempDir() + "/no/such/directory"} {
			if _, err := p.apply(plan, ghcr.ApplyOptions{Journal: path}); err == nil {
				t.Errorf("%s: no error", path)
			}
		}
		if w := p.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
	})
}

// FuzzReadJournal: whatever a file has in it, reading it ends with a journal or an error.
func FuzzReadJournal(f *testing.F) {
	f.Add([]byte(`{"schema":"ghcr-journal/1","time":"2026-01-01T00:00:00Z","plan":{"schema":"ghcr-plan/1","actions":[{"do":"delete","version":1}]}}
{"time":"2026-01-01T00:00:00Z","step":0,"state":"begun"}
{"time":"2026-01-01T00:00:00Z","step":0,"state":"ended","outcome":"done"}
`))
	f.Add([]byte(`{"schema":"ghcr-journal/1","plan":{}}` + "\n{}\n{}\n"))
	f.Add([]byte(`{"schema":"ghcr-plan/1"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := dir + "/journal"
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if j, err := ghcr.ReadJournal(path); err == nil {
			j.Undo()
			if len(j.Steps) != len(j.Plan.Actions) {
				t.Errorf("%d steps of %d actions", len(j.Steps), len(j.Plan.Actions))
			}
		}
		ghcr.ReadUndo(path)
	})
}
