package ghcr_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
)

// The tests here are of what other tools that clean up on GHCR get wrong, as their sources
// show. They are named by the tool.

const untaggedGo = `rules: [{name: untagged, match: {untagged: true}, delete: all}]`

// farApart pushes an index and its part so far from each other that the list's first page
// has the part and its last the index.
func farApart(s *stage) {
	part := image(900, 1)
	s.push("index", ghcrtest.NewIndex(part), "v1")
	time.Sleep(time.Hour)
	s.many("loose", 220)
	time.Sleep(time.Hour)
	s.push("part", part)
}

// TestPruneSnokPartialListingKeepsParts: a list that a limit or an error cuts short is no
// list. The tool took what it had for all.
func TestPruneSnokPartialListingKeepsParts(t *testing.T) {
	exceeded := func(at string) ghcrtest.Fault {
		return ghcrtest.Fault{
			Status: 403, Body: `{"message":"API rate limit exceeded"}`,
			Header: http.Header{"X-Ratelimit-Limit": {"5000"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"{unix" + at + "}"}},
		}
	}
	for name, test := range map[string]struct {
		fault ghcrtest.Fault
		times int
		class error // nil is that the list is whole in the end
	}{
		"limit, short":        {exceeded("+30s"), 1, nil},
		"limit, in the past":  {exceeded("-30s"), 1, nil},
		"limit, for hours":    {exceeded("+7200s"), -1, ghcr.ErrRateLimited},
		"secondary limit":     {ghcrtest.Fault{Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`}, 1, nil},
		"500 once":            {ghcrtest.Fault{Status: 500}, 1, nil},
		"truncated once":      {ghcrtest.Fault{ResponseBytes: 400, Break: true}, 1, nil},
		"HTML":                {ghcrtest.Fault{Status: 200, Body: "<html>"}, -1, errors.ErrUnsupported},
		"500 for ever":        {ghcrtest.Fault{Status: 500}, -1, errors.ErrUnsupported},
		"empty page for ever": {ghcrtest.Fault{Status: 200, Body: "[]"}, -1, ghcr.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, ghcrtest.Options{})
				farApart(s)
				time.Sleep(age)
				fault := test.fault
				fault.Route, fault.Query, fault.Times = ghcrtest.RouteVersions, "page=3", test.times
				s.server.Inject(fault)
				plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), s.policy(untaggedGo), ghcr.PruneOptions{})
				if len(s.server.Faults()) == 0 {
					t.Error("the fault did not happen")
				}
				if test.class != nil {
					if err == nil || test.class != errors.ErrUnsupported && !errors.Is(err, test.class) || plan != nil {
						t.Errorf("%v, a plan: %v", err, plan != nil)
					}
					return
				}
				if err != nil || len(plan.Actions) != 220 || why(plan, s.digest("part")) != "needed-by-kept" {
					t.Errorf("%v; the part: %s", err, why(plan, s.digest("part")))
				}
			})
		})
	}
}

// TestPruneSnokFailedDeletesAreAnError: what fails is counted, is an error, and does not
// keep the rest from being done.
func TestPruneSnokFailedDeletesAreAnError(t *testing.T) {
	for name, test := range map[string]struct {
		fault ghcrtest.Fault
		times int
		fails bool
	}{
		"429 once": {ghcrtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"5"}}}, 1, false},
		"502 once": {ghcrtest.Fault{Status: 502}, 1, false},
		"500":      {ghcrtest.Fault{Status: 500}, -1, true},
		"422":      {ghcrtest.Fault{Status: 422, Body: `{"message":"Unprocessable"}`}, -1, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, ghcrtest.Options{})
				for _, name := range []string{"a", "b", "c"} {
					s.image(name, "old-"+name)
				}
				s.image("stays", "v1")
				time.Sleep(age)
				fault := test.fault
				fault.Role, fault.Method, fault.Times = ghcrtest.RoleAPI, "DELETE", test.times
				for _, v := range s.versions() {
					if v.Digest() == s.digest("b") {
						fault.Ref = strconv.FormatInt(v.ID, 10)
					}
				}
				s.server.Inject(fault)
				_, report, err := s.prune(`rules: [{name: old, match: {tags: ["old-*"]}, delete: all}]`)
				if len(s.server.Faults()) == 0 {
					t.Error("the fault did not happen")
				}
				left, failed := "stays=v1", 0
				var partial *ghcr.PartialError
				if test.fails {
					left, failed = "b=old-b stays=v1", 1
					if !errors.As(err, &partial) || partial.Done != 2 || partial.Total != 3 {
						t.Errorf("error %v", err)
					}
				} else if err != nil {
					t.Error(err)
				}
				if report.Count(ghcr.Failed) != failed || report.Count(ghcr.Done) != 3-failed || report.Left != 0 {
					s.describe(report, err)
					t.Error("the report is wrong")
				}
				if got := s.state(); got != left {
					t.Errorf("left are %s, want %s", got, left)
				}
			})
		})
	}
}

// TestPruneSnokProtectsPartsOf every index that stays, whatever it stays for: the tool looked
// at those that have a tag alone.
func TestPruneSnokProtectsPartsOf(t *testing.T) {
	play(t, []scenario{
		{
			name: "untagged index that is kept by its number",
			seed: func(s *stage) {
				s.image("other", "v1")
				s.index("old", "a b")
				time.Sleep(time.Hour)
				s.index("new", "b c")
			},
			rules: `rules: [{name: untagged, match: {untagged: true}, keep: {last: 1}, delete: all}]`,
			left:  "other=v1 new b c",
		},
		{
			name: "index that is too young",
			seed: func(s *stage) {
				s.image("other", "v1")
				s.image("a")
				time.Sleep(10 * age)
				s.index("young", "a b")
			},
			rules: `rules: [{name: untagged, match: {untagged: true}, delete: {older_than: 7d}}]`,
			left:  "other=v1 young a b",
		},
		{
			name: "index that is kept by digest",
			seed: func(s *stage) {
				s.image("other", "v1")
				s.index("named", "a")
				s.refer("sbom", "a")
				s.index("loose", "b")
			},
			rules: `
protect: {digests: ["digest(named)"]}
` + untaggedGo,
			left: "other=v1 named a sbom",
		},
		{
			name: "index of a user's package",
			opts: ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "dev", Token: ghcrtest.Token}}},
			seed: func(s *stage) {
				s.repo = "dev/app"
				s.index("index", "a b", "v1")
				s.image("loose")
			},
			rules: untaggedGo,
			left:  "index=v1 a b",
		},
	})
}

// TestPruneSeesAllPages: one tool saw the oldest hundred versions alone, another took no
// more than a hundred in a run, and both sorted what they had. 250 are sorted as a whole.
func TestPruneSeesAllPages(t *testing.T) {
	play(t, []scenario{{
		name: "actions/delete-package-versions, SmartsquareGmbH/delete-old-packages",
		seed: func(s *stage) {
			s.image("other", "v1")
			for _, prefix := range []string{"first", "second"} {
				s.many(prefix, 125)
				time.Sleep(time.Hour)
			}
			s.index("last", "first0")
		},
		rules: `rules: [{name: untagged, match: {untagged: true}, keep: {last: 2}, delete: all}]`,
		left:  "other=v1 last first0 second124",
		more: func(s *stage, run *pruned) {
			if run.planned.pages != 3 || run.spent.deletes != 248 {
				t.Errorf("planned by %+v, and applied by %+v", run.planned, run.spent)
			}
		},
	}})
}

// TestPruneChizkiyahuManifestUnknown: an index that can't be read is not one without parts,
// whatever the answer was.
func TestPruneChizkiyahuManifestUnknown(t *testing.T) {
	for name, fault := range map[string]ghcrtest.Fault{
		"404":           {Status: 404, Body: `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`},
		"500":           {Status: 500},
		"HTML":          {Status: 200, Body: "<html>"},
		"another":       {Corrupt: true, ResponseBytes: 20},
		"five megabyte": {Status: 200, Body: strings.Repeat(" ", 5<<20)},
	} {
		play(t, []scenario{{
			name: name,
			seed: func(s *stage) {
				s.index("index", "a b", "v1")
				s.image("loose")
				time.Sleep(time.Hour)
				s.image("old", "pr-1")
				fault.Route, fault.Method, fault.Ref, fault.Times = ghcrtest.RouteManifest, "GET", s.digest("index").String(), -1
				s.server.Inject(fault)
			},
			rules: `rules: [{name: pr, match: {tags: ["pr-*"]}, delete: all}, {name: untagged, match: {untagged: true}, delete: all}]`,
			left:  "index=v1 a b loose",
			more: func(s *stage, run *pruned) {
				if why(run.plan, s.digest("index")) != "unreadable" || why(run.plan, s.digest("a")) != "unknown-parent" || len(run.plan.Health) != 1 || run.plan.Health[0].Holds != 3 {
					t.Errorf("health %+v", run.plan.Health)
				}
				s.server.ClearFaults()
				s.holds("acme/app", "v1", s.images["index"])
			},
		}})
	}
}

// TestPruneChizkiyahuOwnerAlone: with an empty name of a package the tool deleted every
// package of the owner. Here that is no name, and a rule that is about nothing no rule.
func TestPruneChizkiyahuOwnerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ghcrtest.Options{})
		s.image("a", "v1")
		time.Sleep(age)
		policy := s.policy(untaggedGo)
		for _, text := range []string{"", "acme", "acme/", "ghcr.io/acme", "ghcr.io/acme/"} {
			ref, err := s.client.ParseRef(text)
			if err == nil {
				_, _, err = s.client.PlanPrune(t.Context(), ref, policy, ghcr.PruneOptions{})
			}
			if !errors.Is(err, ghcr.ErrInvalid) {
				t.Errorf("%q: %v", text, err)
			}
		}
		for _, match := range []string{`{}`, `{tags: []}`, `{tags: [""]}`, `{tags: ["*"]}`, `{tags: ["re:.*"]}`, `{older_than: 1d}`} {
			if _, err := retain.Parse("policy.yaml", []byte("version: 1\nrules: [{name: all, match: "+match+", delete: all}]\n")); !errors.Is(err, ghcr.ErrInvalid) {
				t.Errorf("%s: %v", match, err)
			}
		}
		if w := s.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
	})
}

// TestPruneVlaurinPatternsMatchTheWholeTag, and all tags of an image must match.
func TestPruneVlaurinPatternsMatchTheWholeTag(t *testing.T) {
	play(t, []scenario{{
		name: "anchored",
		seed: func(s *stage) {
			s.image("a", "1.0")
			s.image("b", "v1.0.3")
			s.image("c", "1x0")
			s.image("d", "1.0-rc1", "1.0-rc2")
			s.image("e", "1.0-rc3", "prod")
		},
		rules: `rules: [{name: pattern, match: {tags: ["re:1\\.0", "re:1\\.0-rc\\d"]}, delete: all}]`,
		left:  "b=v1.0.3 c=1x0 e=1.0-rc3,prod",
		more: func(s *stage, run *pruned) {
			if why(run.plan, s.digest("e")) != "some-tags" {
				t.Errorf("e: %s", why(run.plan, s.digest("e")))
			}
		},
	}})
}

// TestPruneGhcrManagerGoesDownAlone: what goes takes along what it lists, and not what else
// lists that too, nor the other parts of that.
func TestPruneGhcrManagerGoesDownAlone(t *testing.T) {
	play(t, []scenario{{
		name: "directed",
		seed: func(s *stage) {
			s.image("other", "v1")
			s.index("old", "shared own", "pr-1")
			s.index("untagged", "shared theirs")
			s.refer("sbom", "theirs")
		},
		rules: `rules: [{name: pr, match: {tags: ["pr-*"]}, delete: all}]`,
		left:  "other=v1 untagged shared theirs sbom",
	}})
}

// TestPruneGhcrctlShortDigests name nothing in a policy, and nothing where they name two.
func TestPruneGhcrctlShortDigests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ghcrtest.Options{})
		s.many("many", 20)
		s.image("a", "v1")
		time.Sleep(age)
		for _, key := range []string{"protect: {digests: [%]}\nrules: []", "rules: [{name: one, match: {digests: [%]}, delete: all}]"} {
			text := "version: 1\n" + strings.ReplaceAll(key, "%", s.digest("a").String()[:19]) + "\n"
			if _, err := retain.Parse("policy.yaml", []byte(text)); !errors.Is(err, ghcr.ErrInvalid) {
				t.Errorf("%s: %v", text, err)
			}
		}
		plan, inv, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), s.policy(untaggedGo), ghcr.PruneOptions{})
		if err != nil {
			t.Fatal(err)
		}
		several := 0
		for c := range strings.SplitSeq("0123456789abcdef", "") {
			if _, err := retain.Explain(plan, inv, "sha256:"+c); errors.Is(err, ghcr.ErrInvalid) {
				several++
			}
		}
		if several == 0 {
			t.Error("the begin of two digests names one of them")
		}
	})
}

// crowd counts how many requests are under way.
type crowd struct {
	base      http.RoundTripper
	now, most atomic.Int64
}

func (c *crowd) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	return c.base.RoundTrip(r)
}

// TestPruneGhcrctlReadsAFewAtATime, and each manifest once, though two indexes list it.
func TestPruneGhcrctlReadsAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ghcrtest.Options{})
		s.many("many", 300)
		s.index("one", "many0 many1", "v1")
		s.index("two", "many1 many2")
		time.Sleep(age)
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Delay: time.Second, Times: -1})
		net := &crowd{base: s.server.Transport()}
		client, err := ghcr.New(ghcr.Options{Base: net, Credentials: login})
		if err != nil {
			t.Fatal(err)
		}
		plan, _, err := client.PlanPrune(t.Context(), s.ref("acme/app"), s.policy(untaggedGo), ghcr.PruneOptions{})
		if err != nil || len(plan.Actions) != 299 {
			t.Errorf("%d actions: %v", len(plan.Actions), err)
		}
		tokens := 0
		for _, r := range s.log() {
			if r.Route == ghcrtest.RouteToken {
				tokens++
			}
		}
		if n := s.spent(); n.manifests > 302 || n.pages != 4 || tokens > 1 || net.most.Load() > 16 {
			t.Errorf("%+v, %d tokens, %d at a time", n, tokens, net.most.Load())
		}
	})
}
