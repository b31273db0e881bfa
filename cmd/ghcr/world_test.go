package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// everyToken are accounts with one of each kind of token.
var everyToken = []ghcrtest.Account{
	{Login: "alice", Token: "ghp_alice"},
	{Login: "reader", Token: "ghp_reader", Scopes: []string{"read:packages"}},
	{Login: "scopeless", Token: "ghp_scopeless", Scopes: []string{"repo"}},
	{Login: "stranger", Token: "ghp_stranger", Owners: []string{"stranger"}},
	{Login: "alice", Token: "gho_alice"},
	{Login: "alice", Token: "github_pat_alice"},
	{Login: "ci", Token: "ghs_linked", Scopes: []string{"write:packages"}, Repository: "acme/source"},
	{Login: "ci", Token: "ghs_foreign", Scopes: []string{"write:packages"}, Repository: "other/source"},
	{Login: "app", Token: "ghs_app"},
}

// world is an emulated GHCR on a socket.
type world struct {
	t      *testing.T
	server *ghcrtest.Server
	host   string
	cache  string
}

func newWorld(t *testing.T, opts ghcrtest.Options) *world {
	t.Helper()
	server, err := ghcrtest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	l, err := server.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t, server, l.Addr(), t.TempDir()}
}

// run runs the command with a token.
func (w *world) run(token string, args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	getenv := func(name string) string {
		return map[string]string{"CI": "1", "GHCR_TOKEN": token, "XDG_CACHE_HOME": w.cache}[name]
	}
	code = run(context.Background(), append([]string{"--plain-http", "--registry", w.host}, args...), strings.NewReader(""), &out, &errs, getenv)
	if token != "" && (strings.Contains(out.String(), token) || strings.Contains(errs.String(), token)) {
		w.t.Errorf("%v shows the token", args)
	}
	return code, out.String(), errs.String()
}

// TestMaxWait: patience ends with exit code 6.
func TestMaxWait(t *testing.T) {
	quirks := ghcrtest.GHCR()
	quirks.RESTHourly = 3
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken, Quirks: &quirks})
	if err := w.server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	var told []string
	for i := range 5 {
		code, _, stderr := w.run("ghp_alice", "ls", fmt.Sprint("acme", i), "--max-wait", "1ms")
		if code == exitRateLimited {
			if !strings.Contains(stderr, "--max-wait says how long to be patient") {
				t.Errorf("no hint in %s", stderr)
			}
			return
		}
		told = append(told, fmt.Sprint(code, stderr))
	}
	t.Errorf("it never gave up: %q", told)
}

// TestConfirm: who is asked and does not agree changes nothing; a package goes by its
// name.
func TestConfirm(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for tag := range 2 {
		if err := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(tag), 10)).WriteLayout(fmt.Sprint("build", tag), "v1"); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := runSim(t, "box", "push", fmt.Sprintf("oci:build%d:v1", tag), fmt.Sprintf("acme/app:v%d", tag)); code != 0 {
			t.Fatal(stderr)
		}
	}
	for _, test := range []struct {
		answer string
		args   []string
		code   int
		want   string
	}{
		{"\n", []string{"rm", "acme/app:v0"}, exitFailure, "nothing was changed"},
		{"no\n", []string{"untag", "acme/app:v0"}, exitFailure, "nothing was changed"},
		{"", []string{"rm", "acme/app:v0"}, exitFailure, "nothing was changed"},
		{"yes\n", []string{"rm", "--package", "acme/app"}, exitFailure, "nothing was changed"},
		{"y\n", []string{"rm", "acme/app:v0"}, 0, "delete 1 manifest? [y/N]"},
		{"acme/app\n", []string{"rm", "--package", "acme/app"}, 0, "type acme/app to delete it whole"},
	} {
		var stdout, stderr bytes.Buffer
		a := &app{stdin: strings.NewReader(test.answer), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }, asks: true}
		if code := a.run(t.Context(), append([]string{"--sim", "box"}, test.args...)); code != test.code || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%v, answer %q: exit code %d\n%s", test.args, test.answer, code, stderr.String())
		}
		if test.code != 0 {
			if code, _, _ := runSim(t, "box", "digest", "acme/app:v0"); code != 0 {
				t.Errorf("%v, answer %q: it is gone", test.args, test.answer)
			}
		}
	}
	if code, stdout, _ := runSim(t, "box", "ls", "acme", "-q"); code != 0 || stdout != "" {
		t.Errorf("the package is there: %s", stdout)
	}
}

// TestCheckAccess: a package that no workflow has access to is found, and one that
// anybody can pull is as it is expected to be.
func TestCheckAccess(t *testing.T) {
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken, Packages: []ghcrtest.Package{
		{Name: "acme/open", Visibility: ghcrtest.Public, Repository: "acme/source"}, {Name: "alice/loose"},
	}})
	for _, repo := range []string{"acme/open", "alice/loose"} {
		if err := w.server.Add(repo, "v1", ghcrtest.NewImage("linux/amd64", []byte(repo))); err != nil {
			t.Fatal(err)
		}
	}
	if code, stdout, stderr := w.run("ghp_alice", "check", "acme/open", "--expect-public"); code != 0 || stdout != "" {
		t.Errorf("open: exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr := w.run("ghp_alice", "check", "alice", "--expect-public", "--jq", `.[] | "\(.package) \(.kind)"`)
	if want := fmt.Sprintf("%s/alice/loose unlinked\n%[1]s/alice/loose not-public\n", w.host); code != exitFindings || stdout != want {
		t.Errorf("all: exit code %d, %q, want %q\n%s", code, stdout, want, stderr)
	}
	// What cannot be looked at is not taken for well.
	if code, _, _ := w.run("ghp_scopeless", "check", "acme/open", "--expect-public"); code != exitPermission {
		t.Errorf("without a scope: exit code %d", code)
	}
}

// TestPartly: of several deletions those that can be are done, each outcome is told,
// and the exit code says that it is not all.
func TestPartly(t *testing.T) {
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken, Packages: []ghcrtest.Package{{Name: "acme/open", Visibility: ghcrtest.Public}}})
	for i, ref := range []string{"acme/app:v1", "acme/app:v2", "acme/open:v1", "acme/open:v2"} {
		repo, tag, _ := strings.Cut(ref, ":")
		if err := w.server.Add(repo, tag, ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(i), 10))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.server.SetDownloads("acme/open", "v1", 5001); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := w.run("ghp_alice", "rm", "acme/app:v1", "acme/open:v1", "--yes", "--jq", `.[] | "\(.tags[0]) \(.outcome)"`)
	if code != exitPartly || stdout != "v1 done\nv1 blocked\n" || !strings.Contains(stderr, "more than 5000 downloads") || !strings.Contains(stderr, "only GitHub's support") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if code, _, _ := w.run("ghp_alice", "digest", "acme/open:v1"); code != 0 {
		t.Errorf("what could not be deleted is gone: %d", code)
	}
	if code, stdout, stderr = w.run("ghp_reader", "rm", "acme/app:v2", "acme/open:v2", "--yes"); code != exitFindings && code != exitPermission {
		t.Errorf("a token that may not: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestTokensAreNotShown: whatever is run with a token of any kind, however it ends,
// does not show it.
func TestTokensAreNotShown(t *testing.T) {
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken, Packages: []ghcrtest.Package{{Name: "acme/app"}}})
	if err := w.server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	tokens := []string{"ghp_wrong0123456789", "tokenOfNoKnownKind"}
	for _, a := range everyToken {
		tokens = append(tokens, a.Token)
	}
	for _, token := range tokens {
		for _, args := range [][]string{
			{"auth", "status"}, {"auth", "status", "--json"}, {"doctor", "acme/app"}, {"limits"}, {"ls", "acme"}, {"ls", "acme/app", "--versions"},
			{"show", "acme/app:v1"}, {"check", "acme"}, {"visibility", "acme/app"}, {"rm", "acme/app:v1", "--yes"}, {"untag", "acme/app:v1", "--yes"},
			{"restore", "acme/app#1"}, {"api", "/user"}, {"api", "/user?access_token=" + token}, {"promote", "acme/app:v1", "acme/b:v1"},
		} {
			w.run(token, append([]string{"--debug"}, args...)...) // which looks for the token
		}
	}
	err := filepath.WalkDir(w.cache, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, token := range tokens {
			if bytes.Contains(data, []byte(token)) {
				t.Errorf("%s has a token", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRefusals: each refusal to delete has its exit code and says what to do.
func TestRefusals(t *testing.T) {
	accounts := append([]ghcrtest.Account{{Login: "bob", Token: "ghp_bob", Role: "read"}}, everyToken...)
	w := newWorld(t, ghcrtest.Options{
		Accounts: accounts,
		Owners:   []ghcrtest.Owner{{Login: "strict", Forbids: "classic"}, {Login: "secure", Forbids: "unauthorized"}},
		Packages: []ghcrtest.Package{{Name: "acme/app"}, {Name: "acme/open", Visibility: ghcrtest.Public}},
	})
	for i, ref := range []string{"acme/app:v1", "acme/app:v2", "acme/open:v1", "acme/open:v2", "acme/solo:v1", "strict/app:v1", "secure/app:v1"} {
		repo, tag, _ := strings.Cut(ref, ":")
		if err := w.server.Add(repo, tag, ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(i), 10))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.server.SetDownloads("acme/open", "v1", 5001); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		token, ref string
		code       int
		want, hint string
	}{
		"no login":        {"", "acme/app:v1", exitPermission, "wants a valid token", "set GHCR_TOKEN"},
		"expired":         {"ghp_expired", "acme/app:v1", exitPermission, "Bad credentials", "expired or revoked"},
		"scope":           {"ghp_reader", "acme/app:v1", exitPermission, "lacks the scope delete:packages", "make a token that has it"},
		"role":            {"ghp_bob", "acme/app:v1", exitPermission, "this login may not do that", "role Admin"},
		"kind":            {"github_pat_alice", "acme/app:v1", exitNotFound, "may not see it", "use a classic one"},
		"not linked":      {"ghs_foreign", "acme/app:v1", exitNotFound, "may not see it", "Manage Actions access"},
		"absent":          {"ghp_alice", "acme/none:v1", exitNotFound, "may not see it", "not found, or private"},
		"private":         {"ghp_stranger", "acme/app:v1", exitNotFound, "may not see it", "not found, or private"},
		"forbids classic": {"ghp_alice", "strict/app:v1", exitPermission, "the organization forbids it", "an owner of the organization can allow it"},
		"single sign-on":  {"ghp_alice", "secure/app:v1", exitPermission, "single sign-on", "Configure SSO"},
		"last tagged":     {"ghp_alice", "acme/solo:v1", exitFindings, "last tagged version", "tag another version first"},
		"downloads":       {"ghp_alice", "acme/open:v1", exitFailure, "more than 5000 downloads", "only GitHub's support"},
	} {
		code, stdout, stderr := w.run(test.token, "rm", test.ref, "--yes")
		if code != test.code || !strings.Contains(stderr, test.want) || !strings.Contains(stderr, "hint: ") || !strings.Contains(stderr, test.hint) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, test.code, stdout, stderr)
		}
	}
}

// TestCheckAsksBeyondTheList: what was restored a moment ago is not listed yet, and is
// there all the same. Its signature is no orphan, and its index is not broken.
func TestCheckAsksBeyondTheList(t *testing.T) {
	q := ghcrtest.GHCR()
	q.RESTStaleness = time.Hour
	w := newWorld(t, ghcrtest.Options{Quirks: &q})
	part := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 10))
	whole := ghcrtest.NewIndex(part)
	add := func(tag string, img *ghcrtest.Image) {
		t.Helper()
		if err := w.server.Add("acme/app", tag, img); err != nil {
			t.Fatal(err)
		}
	}
	add("v1", ghcrtest.Raw(whole.Manifest.MediaType, whole.Manifest.Bytes()))
	signature := ghcrtest.Sign(part)
	add(signature.Tags[0], ghcrtest.Raw(signature.Manifest.MediaType, signature.Manifest.Bytes()))
	w.server.Advance(2 * time.Hour)
	if code, out, _ := w.run("ghp_simulated", "check", "acme/app"); code != exitFindings {
		t.Errorf("without the part: exit code %d: %s", code, out)
	}
	add("", part)
	if code, out, errs := w.run("ghp_simulated", "check", "acme/app"); code != 0 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

// TestSizeOfNestedIndex: each part counts, however deep it is and whatever it is called.
func TestSizeOfNestedIndex(t *testing.T) {
	w := newWorld(t, ghcrtest.Options{})
	one, two := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 1000)), ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(2, 3000))
	if err := w.server.Add("acme/app", "v1", ghcrtest.NewIndex(ghcrtest.NewIndex(one), two)); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := w.run("ghp_simulated", "size", "acme/app:v1", "--jq", `.platforms[] | .compressed > 1000`)
	if code != 0 || stdout != "true\ntrue\n" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
