package ghcrtest_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestParseFaults: a file can say all that a Fault can, but for functions.
func TestParseFaults(t *testing.T) {
	const all = `[{
		"name": "n",
		"match": {"role": "registry", "route": "blob", "method": "GET", "repo": "acme/app", "ref": "r", "digest": "d", "query": "a=b",
			"credential": "bearer", "fromByte": 1, "over": 2, "if": "start", "after": 3, "every": 4, "probability": 0.5, "seed": 6},
		"do": {"set": "s", "action": "drop-sessions", "advance": "-1m", "stale": "1.5s", "asQuery": "n=2", "delay": "2s", "jitter": "3s",
			"bytesPerSecond": 7, "status": 503, "header": {"retry-after": "8", "Vary": ["a", "b"], "Link": null}, "body": "b", "ignoreRange": true,
			"drain": true, "break": true, "responseBytes": -9, "reset": true, "served": true, "stall": "4s", "dribble": "5s", "close": true},
		"times": -1
	}, {"do": {"short": true}}, {"do": {"malformed": true}}, {"do": {"corrupt": true}}, {"do": {"requestBytes": 5}}, {"do": {"acceptBytes": 5}}]`
	faults, err := ghcrtest.ParseFaults([]byte(all))
	if err != nil {
		t.Fatal(err)
	}
	want := ghcrtest.Fault{
		Name: "n", Role: "registry", Route: "blob", Method: "GET", Repo: "acme/app", Ref: "r", Digest: "d", Query: "a=b", Credential: "bearer",
		FromByte: 1, Over: 2, If: "start", After: 3, Every: 4, Probability: 0.5, Seed: 6, Times: -1,
		Set: "s", Action: ghcrtest.ActionDropSessions, Advance: -time.Minute, Stale: 1500 * time.Millisecond, AsQuery: "n=2",
		Delay: 2 * time.Second, Jitter: 3 * time.Second, BytesPerSecond: 7, Status: 503, Body: "b", IgnoreRange: true, Drain: true, Break: true,
		ResponseBytes: -9, Reset: true, Served: true, Stall: 4 * time.Second, Dribble: 5 * time.Second, Close: true,
		Header: map[string][]string{"Retry-After": {"8"}, "Vary": {"a", "b"}, "Link": nil},
	}
	if !reflect.DeepEqual(faults[0], want) {
		t.Errorf("got  %+v\nwant %+v", faults[0], want)
	}
	// Each field is set by one of the rules, so a new one cannot be forgotten here.
	typ := reflect.TypeFor[ghcrtest.Fault]()
	for i := range typ.NumField() {
		set := typ.Field(i).Name == "Do" || !typ.Field(i).IsExported()
		for _, f := range faults {
			set = set || !reflect.ValueOf(f).Field(i).IsZero()
		}
		if !set {
			t.Errorf("a file cannot say %s", typ.Field(i).Name)
		}
	}
}

func TestParseFaultsByName(t *testing.T) {
	_, err := ghcrtest.ParseFaults([]byte(`[
		{"use": "F8b.reset"}, {"use": "F1a", "match": {"repo": "acme/app", "nth": 3}, "name": "mine"}, {"use": "F3a.forever", "match": {"first": 2}}]`))
	if err == nil || !strings.Contains(err.Error(), "F8b.reset") {
		t.Fatalf("got %v; F8b has no such variant", err)
	}
	faults, err := ghcrtest.ParseFaults([]byte(`[
		{"use": "F8b"}, {"use": "F1a", "match": {"repo": "acme/app", "nth": 3}, "name": "mine"}, {"use": "F3a.forever", "match": {"first": 2}}]`))
	if err != nil {
		t.Fatal(err)
	}
	f8b := ghcrtest.NamedFault("F8b")
	if !reflect.DeepEqual(faults[:len(f8b)], f8b) {
		t.Errorf("got %+v", faults)
	}
	f := faults[len(f8b)]
	if f.Name != "mine" || f.Repo != "acme/app" || f.After != 2 || f.Times != 1 || f.Status != 429 {
		t.Errorf("got %+v", f)
	}
	if f = faults[len(f8b)+1]; f.Times != 2 || f.Status != 503 || f.Name != "F3a.forever" {
		t.Errorf("got %+v", f)
	}
}

// TestParseFaultsRefuses what would never happen, and says where it is.
func TestParseFaultsRefuses(t *testing.T) {
	for text, says := range map[string]string{
		`{}`:                            "list of rules",
		`[{}] x`:                        "list of rules",
		`[{}, {"nmae":1}]`:              `fault 2: json: unknown field "nmae"`,
		`[{"match": {"rute": "blob"}}]`: `unknown field "rute"`,
		`[{"name": "a", "match": {"route": "blobs"}}]`:            `fault 1: "a": match.route: there is no "blobs"`,
		`[{"match": {"role": "disk"}}]`:                           "match.role",
		`[{"match": {"method": "get"}}]`:                          "match.method",
		`[{"match": {"credential": "cookie"}}]`:                   "match.credential",
		`[{"match": {"probability": 1.5}}]`:                       "match.probability",
		`[{"match": {"query": "%zz"}}]`:                           "match.query",
		`[{"match": {"over": -1}}]`:                               "match.over",
		`[{"match": {"after": -1}}]`:                              "match: after",
		`[{"match": {"nth": 2, "first": 3}}]`:                     "match.first",
		`[{"match": {"nth": 2, "after": 3}}]`:                     "match.nth",
		`[{"match": {"if": "x"}}]`:                                "name: a state",
		`[{"do": [{"delay": "1s"}]}]`:                             "fault 1: do: it can't be array",
		`[5]`:                                                     "the rule: it can't be number",
		`[{"times": 0}]`:                                          "times",
		`[{"do": {"delay": 5}}]`:                                  "want one such as",
		`[{"do": {"delay": "5"}}]`:                                "missing unit",
		`[{"do": {"delay": "-5s"}}]`:                              "do.delay",
		`[{"do": {"status": 100}}]`:                               "do.status",
		`[{"do": {"body": "x"}}]`:                                 "do.body",
		`[{"do": {"action": "explode"}}]`:                         "do.action",
		`[{"do": {"header": {"a b": "c"}}}]`:                      "do.header",
		`[{"do": {"status": 200, "header": {"a": "b\r\nc: d"}}}]`: "do.header: A has a control",
		`[{"do": {"short": true, "corrupt": true}}]`:              "exclude one another",
		`[{"do": {"responseBytes": 5}}]`:                          "do.responseBytes",
		`[{"do": {"reset": true}}]`:                               "do.reset",
		`[{"do": {"drain": true}}]`:                               "do.drain",
		`[{"use": "F99"}]`:                                        `there is no fault "F99"`,
		`[{"use": "F18"}]`:                                        "client's",
		`[{"use": "F1a", "do": {"status": 500}}]`:                 "do: what happens",
		`[{"use": "F1a", "match": {"if": "x"}}]`:                  "match.if",
		`[{"use": "F1a", "match": {"route": "x"}}]`:               `"F1a": match.route`,
		`[{"do": {"header": {"a": 1}, "status": 200}}]`:           "do.header: it can't be number",
	} {
		if _, err := ghcrtest.ParseFaults([]byte(text)); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", text, err, says)
		}
	}
}

// TestCatalogue: each entry can be used from a file, has a sentence of its own, and all
// of the eighteen kinds are there.
func TestCatalogue(t *testing.T) {
	kinds, titles := map[string]bool{}, map[string]string{}
	for _, e := range ghcrtest.Catalogue() {
		kind, _, _ := strings.Cut(e.ID, ".")
		kinds[strings.TrimRight(kind, "abcd")] = true
		if other := titles[e.Title]; other != "" || e.Title == "" || e.Must == "" {
			t.Errorf("%s: title %q (also of %q), must %q", e.ID, e.Title, other, e.Must)
		}
		titles[e.Title] = e.ID
		if len(e.Faults) == 0 {
			continue
		}
		if _, err := ghcrtest.ParseFaults([]byte(`[{"use": "` + e.ID + `"}]`)); err != nil {
			t.Errorf("%s: %v", e.ID, err)
		}
		for _, f := range e.Faults {
			if f.Name != e.ID {
				t.Errorf("%s: a fault is called %q", e.ID, f.Name)
			}
		}
	}
	for _, want := range strings.Fields("F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 F13 F14 F15 F16 F17 F18") {
		if !kinds[want] {
			t.Errorf("there is no %s", want)
		}
	}
}

func FuzzParseFaults(f *testing.F) {
	f.Add([]byte(`[{"use": "F8b"}, {"match": {"nth": 2, "query": "n=5"}, "do": {"delay": "1.5s", "header": {"Link": null}}}]`))
	f.Add([]byte(`[{"name": "a", "match": {"if": "start"}, "do": {"set": "b", "status": 503, "body": "{url}"}, "times": -1}]`))
	f.Add([]byte(`[{"do": {"short": true, "responseBytes": -1}}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		faults, err := ghcrtest.ParseFaults(raw)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		for _, f := range faults {
			if f.Delay < 0 || f.Probability < 0 || f.Probability > 1 || f.After < 0 || f.Every < 0 {
				t.Errorf("accepted %+v", f)
			}
		}
	})
}

// TestFaultsOnEachRoute: a route that is added can have faults.
func TestFaultsOnEachRoute(t *testing.T) {
	source, err := os.ReadFile("routes.go")
	if err != nil {
		t.Fatal(err)
	}
	routes := regexp.MustCompile(`\t(Route|Role)\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(routes) < 20 {
		t.Fatalf("only %d routes are found", len(routes))
	}
	for _, m := range routes {
		if _, err := ghcrtest.ParseFaults(fmt.Appendf(nil, `[{"match": {%q: %q}, "do": {"status": 503}}]`, strings.ToLower(m[1]), m[2])); err != nil {
			t.Error(err)
		}
	}
}
