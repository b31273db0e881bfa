package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestDoctor: each kind of token is told what it is good for, and what to do.
func TestDoctor(t *testing.T) {
	opts := ghcrtest.Options{
		Accounts: everyToken, NoLog: true,
		Packages: []ghcrtest.Package{
			{Name: "acme/app", Repository: "acme/source", Access: map[string]string{"acme/source": "admin"}},
			{Name: "acme/open", Visibility: ghcrtest.Public}, {Name: "alice/own"},
		},
	}
	w := newWorld(t, opts)
	for _, repo := range []string{"acme/app", "acme/open", "alice/own"} {
		if err := w.server.Add(repo, "v1", ghcrtest.NewImage("linux/amd64", []byte(repo))); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		token, about string
		code         int
		want         string // check:status, as many as matter
		do           string // in what to do
	}{
		{"ghp_alice", "acme/app", 0, "login:ok token:ok scopes:ok clock:ok api limit:ok list:ok read:ok link:ok pull:ok anonymous pull:no push:ok delete:unknown", "role Admin"},
		{"ghp_alice", "alice/own", 0, "read:ok link:warning push:ok delete:ok", ""},
		{"ghp_alice", "acme/open", 0, "pull:ok anonymous pull:ok", ""},
		{"gho_alice", "alice/own", 0, "token:ok scopes:ok list:ok delete:ok", ""},
		{"ghp_reader", "acme/app", 0, "token:ok scopes:warning list:ok read:ok pull:ok push:no delete:no", "delete:packages"},
		{"ghp_scopeless", "acme/app", exitFindings, "token:ok scopes:problem list:no read:no pull:no push:no delete:no", "read:packages"},
		{"ghp_stranger", "acme/app", 0, "token:ok scopes:ok read:no pull:no push:no delete:no", "private and this login can't see it"},
		{"github_pat_alice", "acme/app", exitFindings, "token:problem list:no read:no delete:no", "classic token"},
		{"ghs_linked", "acme/app", 0, "token:warning list:no read:ok pull:ok push:ok delete:unknown", "Manage Actions access"},
		{"ghs_foreign", "acme/app", 0, "token:warning list:no read:no push:no delete:no", "Manage Actions access"},
		{"ghs_app", "acme/app", 0, "token:warning list:no read:no pull:ok push:ok delete:no", "classic token"},
		{"ghp_wrong", "acme/app", exitFindings, "login:ok token:problem owner:no read:no delete:no", "expired or revoked"},
		{"", "acme/app", 0, "login:warning list:no read:no pull:no push:no delete:no", "ghcr auth login"},
		{"", "acme/open", 0, "login:warning pull:ok anonymous pull:ok push:no", ""},
	} {
		code, stdout, stderr := w.run(test.token, "doctor", test.about, "--json")
		var list []diagnosis
		if err := json.Unmarshal([]byte(stdout), &list); err != nil {
			t.Fatalf("%s: %v\n%s%s", test.token, err, stdout, stderr)
		}
		got, all := map[string]health{}, ""
		for _, d := range list {
			got[d.Check] = d.Status
			all += fmt.Sprintf("%s %s: %s; %s\n", d.Check, d.Status, d.Found, d.Do)
			if (d.Status == healthProblem || d.Status == healthWarning) && d.Do == "" {
				t.Errorf("%q, %s: nothing is said about what to do about %s", test.token, test.about, d.Check)
			}
		}
		for status, rest := "", test.want; rest != ""; {
			var check string
			check, rest, _ = strings.Cut(rest, ":")
			status, rest, _ = strings.Cut(rest, " ")
			if got[check] != health(status) {
				t.Errorf("%q, %s: %s is %q, want %q\n%s", test.token, test.about, check, got[check], status, all)
			}
		}
		if code != test.code {
			t.Errorf("%q, %s: exit code %d, want %d\n%s", test.token, test.about, code, test.code, all)
		}
		if !strings.Contains(all, test.do) {
			t.Errorf("%q, %s: %q is not said\n%s", test.token, test.about, test.do, all)
		}
	}
}

// TestDoctorChangesNothing: no request of it changes what anybody sees.
func TestDoctorChangesNothing(t *testing.T) {
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken})
	if code, _, stderr := w.run("ghp_alice", "doctor", "acme/new"); code != 0 {
		t.Fatal(stderr)
	}
	for _, r := range w.server.Requests() {
		read := r.Method == "GET" || r.Method == "HEAD"
		session := strings.Contains(r.Path, "/blobs/upload") && (r.Method == "POST" && r.Query == "" || r.Method == "DELETE")
		if !read && !session {
			t.Errorf("%s %s?%s", r.Method, r.Path, r.Query)
		}
	}
	if _, stdout, _ := w.run("ghp_alice", "ls", "acme", "-q"); stdout != "" {
		t.Errorf("there is a package %s", stdout)
	}
}

// TestDoctorTellsTheClock: one that is wrong breaks signed addresses.
func TestDoctorTellsTheClock(t *testing.T) {
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken, Ahead: time.Hour + 30*time.Second})
	_, stdout, _ := w.run("ghp_alice", "doctor")
	if !strings.Contains(stdout, "clock\twarning\t1h0m") || !strings.Contains(stdout, "behind GitHub's\tset it by a time server") {
		t.Errorf("got %s", stdout)
	}
}

// TestDoctorWithoutAPI: what an API that does not answer leaves open is unknown.
func TestDoctorWithoutAPI(t *testing.T) {
	d := &doctor{}
	d.lookAtDeletion("acme", nil)
	if d.list[0].Status != healthUnknown {
		t.Errorf("got %+v", d.list)
	}
}
