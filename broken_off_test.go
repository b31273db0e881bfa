package ghcr_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

var errCtrlC = errors.New("interrupt signal received")

// after is a context that is broken off after a time.
func (s *sandbox) after(d time.Duration) context.Context {
	ctx, cancel := context.WithCancelCause(s.t.Context())
	timer := time.AfterFunc(d, func() { cancel(errCtrlC) })
	s.t.Cleanup(func() { timer.Stop(); cancel(nil) })
	return ctx
}

// heldUp are what may hold a deletion up, and what then comes of the first that is held
// up when the run is broken off 10 s later.
var heldUp = []struct {
	name    string
	fault   ghcrtest.Fault
	outcome ghcr.Outcome
	within  time.Duration
}{
	// What waits is not sent any more.
	{"a limit", ghcrtest.Fault{Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`}, ghcr.Skipped, time.Second},
	{"a limit with a time", ghcrtest.Fault{Status: 429, Header: map[string][]string{"Retry-After": {"90"}}, Body: `{"message":"slow down"}`}, ghcr.Skipped, time.Second},
	// What was sent is waited for.
	{"an answer that takes long", ghcrtest.Fault{Delay: 25 * time.Second}, ghcr.Done, 20 * time.Second},
	{"an answer that is lost", ghcrtest.Fault{Delay: 12 * time.Second, ResponseBytes: 0, Break: true}, ghcr.Failed, 5 * time.Second},
	// What can't be looked at is not known, and neither is what never comes.
	{"no answers", ghcrtest.Fault{Delay: time.Hour, Set: "stuck"}, ghcr.Unknown, 91 * time.Second},
	{"all is down", ghcrtest.Fault{Delay: 12 * time.Second, Break: true, Set: "down"}, ghcr.Unknown, 90 * time.Second},
}

// TestPruneBrokenOffWhileItIsHeldUp: a wait ends at once, and a deletion that was sent is
// waited for and looked at. What was not sent is left, neither failed nor unknown.
func TestPruneBrokenOffWhileItIsHeldUp(t *testing.T) {
	for _, tt := range heldUp {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{})
				plan := p.planOf("acme/app", "v1", "v2")
				tt.fault.Role, tt.fault.Method, tt.fault.After, tt.fault.Times = ghcrtest.RoleAPI, "DELETE", 2, -1
				tt.fault.Name = "service"
				p.server.Inject(tt.fault)
				p.server.Inject(ghcrtest.Fault{Name: "service", If: "down", Status: 503, Times: -1})
				p.server.Inject(ghcrtest.Fault{Name: "service", If: "stuck", Delay: time.Hour, Times: -1})
				journal := t.TempDir() + "/journal"
				began := time.Now()
				report, err := p.client.ApplyPrune(p.after(10*time.Second), plan, ghcr.ApplyOptions{Journal: journal})
				if took := time.Since(began) - 10*time.Second; took < 0 || took > tt.within {
					t.Errorf("it ended after %s", took)
				}
				if !errors.Is(err, errCtrlC) || report.Items[2].Outcome != tt.outcome || report.Count(ghcr.Done) != 2+count(tt.outcome == ghcr.Done) {
					p.describe(report, err)
					t.Errorf("the third is %s; want %s", report.Items[2].Outcome, tt.outcome)
				}
				if want := len(plan.Actions) - 2 - count(tt.outcome != ghcr.Skipped); report.Left != want || report.Count(ghcr.Skipped) != want {
					t.Errorf("%d are left and %d skipped; want %d", report.Left, report.Count(ghcr.Skipped), want)
				}
				p.server.ClearFaults()
				time.Sleep(2 * time.Hour)
				if tt.outcome != ghcr.Unknown {
					p.truthful("acme/app", report)
				}
				p.stay()
				if report, err = p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{}); err != nil || report.Count(ghcr.Done) != len(plan.Actions) {
					p.describe(report, err)
					t.Error("not all is done in the end")
				}
				p.truthful("acme/app", report)
				p.stay()
				if _, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(journal)}); err != nil {
					t.Error(err)
				}
				p.holds("acme/app", "v1", p.old)
				p.holds("acme/app", "v2", p.older)
			})
		})
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// TestDeleteBrokenOffWhileItIsHeldUp: so it is with what is deleted by name.
func TestDeleteBrokenOffWhileItIsHeldUp(t *testing.T) {
	for _, tt := range heldUp {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{})
				tt.fault.Role, tt.fault.Method, tt.fault.After, tt.fault.Times = ghcrtest.RoleAPI, "DELETE", 2, -1
				tt.fault.Name = "service"
				p.server.Inject(tt.fault)
				p.server.Inject(ghcrtest.Fault{Name: "service", If: "down", Status: 503, Times: -1})
				p.server.Inject(ghcrtest.Fault{Name: "service", If: "stuck", Delay: time.Hour, Times: -1})
				undo := t.TempDir() + "/undo"
				began := time.Now()
				result, err := p.client.Delete(p.after(10*time.Second), ghcr.DeleteOptions{Undo: undo}, p.refs("acme/app:v1")...)
				if took := time.Since(began) - 10*time.Second; took < 0 || took > tt.within {
					t.Errorf("it ended after %s", took)
				}
				if !errors.Is(err, errCtrlC) || result.Items[2].Outcome != tt.outcome {
					t.Fatalf("the third is %s (%v), and the error %v; want %s", result.Items[2].Outcome, result.Items[2].Err, err, tt.outcome)
				}
				p.server.ClearFaults()
				time.Sleep(2 * time.Hour)
				for i, item := range result.Items {
					there := p.resolves("acme/app", item.Digest.String()) != ""
					if item.Outcome != ghcr.Unknown && there == (item.Outcome == ghcr.Done) || i > 2 && item.Outcome != ghcr.Skipped {
						t.Errorf("item %d is %s, and there: %v", i, item.Outcome, there)
					}
				}
				p.stay()
				if _, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(undo)}); err != nil {
					t.Error(err)
				}
				p.holds("acme/app", "v1", p.old)
			})
		})
	}
}

// TestUntagBrokenOffWhileItIsHeldUp: a tag that is on its way off is pending, whatever is
// waited for, and the next run ends it. What was not begun is not done.
func TestUntagBrokenOffWhileItIsHeldUp(t *testing.T) {
	limit := ghcrtest.Fault{Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`, Times: -1}
	for name, tt := range map[string]struct {
		fault    ghcrtest.Fault
		stale    time.Duration
		outcomes [2]ghcr.Outcome
	}{
		"the list is late":        {stale: 30 * time.Second, outcomes: [2]ghcr.Outcome{ghcr.Pending, ghcr.Pending}},
		"the deletion is limited": {fault: ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE"}, outcomes: [2]ghcr.Outcome{ghcr.Pending, ghcr.Pending}},
		"the second is limited":   {fault: ghcrtest.Fault{Route: ghcrtest.RouteManifest, Method: "PUT", After: 1}, outcomes: [2]ghcr.Outcome{ghcr.Pending, ghcr.Skipped}},
		"both are limited":        {fault: ghcrtest.Fault{Route: ghcrtest.RouteManifest, Method: "PUT"}, outcomes: [2]ghcr.Outcome{ghcr.Skipped, ghcr.Skipped}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{Quirks: late(tt.stale)})
				img := image(1, 1)
				for _, tag := range []string{"prod", "pr-1", "pr-2"} {
					s.add("acme/app", tag, img)
				}
				time.Sleep(time.Hour)
				if tt.stale == 0 {
					tt.fault.Status, tt.fault.Body, tt.fault.Times = limit.Status, limit.Body, limit.Times
					s.server.Inject(tt.fault)
				}
				began := time.Now()
				result, err := s.client.Untag(s.after(10*time.Second), ghcr.UntagOptions{}, s.refs("acme/app:pr-1", "acme/app:pr-2")...)
				if took := time.Since(began) - 10*time.Second; took < 0 || took > time.Second {
					t.Errorf("it ended after %s", took)
				}
				if !errors.Is(err, errCtrlC) || result == nil || [2]ghcr.Outcome{result.Items[0].Outcome, result.Items[1].Outcome} != tt.outcomes {
					t.Fatalf("%+v: %v; want %v", result, err, tt.outcomes)
				}
				s.server.ClearFaults()
				time.Sleep(time.Hour)
				s.holds("acme/app", "prod", img)
				if _, err := s.untag("acme/app:pr-1", "acme/app:pr-2"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				s.holds("acme/app", "prod", img)
				if n := len(s.inventory("acme/app").Versions); n != 1 {
					t.Errorf("%d versions are left", n)
				}
			})
		})
	}
}

// TestRestoreBrokenOffWhileItIsHeldUp: a wait ends at once, and what is not back is not
// said to have failed. The next run brings all of it back.
func TestRestoreBrokenOffWhileItIsHeldUp(t *testing.T) {
	for name, tt := range map[string]struct {
		fault   ghcrtest.Fault
		outcome ghcr.Outcome
	}{
		"a limit":                     {ghcrtest.Fault{Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`}, ghcr.Skipped},
		"an answer that takes longer": {ghcrtest.Fault{Delay: 25 * time.Second}, ghcr.Done},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{})
				undo := t.TempDir() + "/undo"
				if _, err := p.delete(ghcr.DeleteOptions{Undo: undo}, "acme/app:v1"); err != nil {
					t.Fatal(err)
				}
				tt.fault.Role, tt.fault.Method, tt.fault.After, tt.fault.Times = ghcrtest.RoleAPI, "POST", 2, -1
				p.server.Inject(tt.fault)
				began := time.Now()
				back, err := p.client.Restore(p.after(10*time.Second), p.ref("acme/app"), ghcr.RestoreOptions{Undo: p.undo(undo)})
				if took := time.Since(began); took < 10*time.Second || took > 26*time.Second || tt.outcome == ghcr.Skipped && took > 11*time.Second {
					t.Errorf("it ended after %s", took)
				}
				if !errors.Is(err, errCtrlC) || back[2].Outcome != tt.outcome || back[len(back)-1].Outcome != ghcr.Skipped {
					t.Errorf("%+v: %v", back, err)
				}
				p.server.ClearFaults()
				time.Sleep(time.Hour)
				for _, r := range back {
					if there := p.resolves("acme/app", r.Digest.String()) != ""; there != (r.Outcome == ghcr.Done) {
						t.Errorf("%s is %s, and there: %v", r.Digest, r.Outcome, there)
					}
				}
				if back, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(undo)}); err != nil {
					t.Errorf("%+v: %v", back, err)
				}
				p.holds("acme/app", "v1", p.old)
			})
		})
	}
}

// oddCause is an error that can't be compared.
type oddCause struct{ of []string }

func (oddCause) Error() string { return "odd" }

// TestBrokenOffForAnyCause: what somebody ends a context with is theirs to choose.
func TestBrokenOffForAnyCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		p.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", After: 1, Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(oddCause{[]string{"a"}}) })
		report, err := p.client.ApplyPrune(ctx, plan, ghcr.ApplyOptions{Journal: t.TempDir() + "/journal"})
		var odd oddCause
		if !errors.As(err, &odd) || report.Count(ghcr.Skipped) != len(plan.Actions)-1 {
			p.describe(report, err)
			t.Error("it ended otherwise")
		}
	})
}
