package cassette_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/cassette"
)

// canaries are secrets of every kind. No one else has these values.
var canaries = map[string]string{
	"classic token":      "ghp_CANARYclassic00000000000000000000001",
	"OAuth token":        "gho_CANARYoauth0000000000000000000000002",
	"user token":         "ghu_CANARYuser00000000000000000000000003",
	"installation token": "ghs_CANARYinstall000000000000000000004",
	"refresh token":      "ghr_CANARYrefresh000000000000000000005",
	"fine-grained token": "github_pat_CANARY0000000000000006_abcdefghijklmnopqrstuvwxyz",
	"JSON web token":     "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJDQU5BUlkwMDA3In0.Q0FOQVJZc2lnbmF0dXJlMDAwNw",
	"registry token":     "djE6YWNtZS9hcHA6MTc2NDA5MDAwMDAwMENBTkFSWTAwMDg=",
	"password":           "CANARY pass/word+0009&x=y",
	"signature":          "CANARY0010/abc+def%2Bsignature0010==",
	"cookie":             "CANARYcookie0011abcdef",
	"given":              "CANARY-given-by-options-0012",
	"environment":        "CANARY-of-the-environment-0013",
}

// leaks searches files for the canaries: raw, in base64 at any alignment, and
// URL-encoded once and twice.
func leaks(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	for path, data := range files(t, dir) {
		for name, secret := range canaries {
			var quoted bytes.Buffer
			json.HTMLEscape(&quoted, []byte(secret))
			forms := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), url.QueryEscape(url.QueryEscape(secret)), quoted.String()}
			for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				for shift := range 3 {
					coded := enc.EncodeToString([]byte(strings.Repeat(" ", shift) + secret))
					core := coded[(shift*8+5)/6 : (shift+len(secret))*8/6]
					forms = append(forms, core, url.QueryEscape(core))
				}
			}
			for _, form := range forms {
				if bytes.Contains(data, []byte(form)) {
					found = append(found, fmt.Sprintf("%s holds the %s as %q", path, name, form))
				}
			}
		}
		if bytes.Contains(data, []byte("CANARY")) {
			found = append(found, path+" holds a part of a canary")
		}
	}
	return found
}

// TestLeaksNothing: secrets in headers, bodies, URLs and texts of errors, on both
// ways, are nowhere in what is kept.
func TestLeaksNothing(t *testing.T) {
	t.Setenv("SOME_DEPLOY_TOKEN", canaries["environment"])
	for name, secret := range canaries {
		t.Run(name, func(t *testing.T) {
			basic := base64.StdEncoding.EncodeToString([]byte("someone:" + secret))
			coded := base64.StdEncoding.EncodeToString([]byte(secret))
			quoted, _ := json.Marshal(secret)
			signed := "https://cdn.example.com/x?se=2026&sp=r&sig=" + url.QueryEscape(secret)
			server := &script{answers: []answer{
				{status: 401, header: http.Header{"Www-Authenticate": {`Bearer realm="https://ghcr.io/token",service="ghcr.io"`}, "X-Secret": {secret}, "Set-Cookie": {"session=" + url.QueryEscape(secret)}}, body: `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`},
				{status: 200, body: `{"token":` + string(quoted) + `,"access_token":` + string(quoted) + `,"note":` + string(quoted) + `,"expires_in":300}`},
				{status: 200, body: `{"token":` + string(quoted) + `}`},
				{status: 200, header: http.Header{"Etag": {secret}, "Link": {"<" + signed + `>; rel="next"`}, "Warning": {"you sent " + secret}}, body: `{"login":"x"}`},
				{status: 307, header: http.Header{"Location": {signed}}},
				{status: 200, body: "public"},
				{status: 403, body: `{"message":"denied for ` + strings.Trim(string(quoted), `"`) + ` and ` + url.QueryEscape(secret) + ` and ` + coded + ` and ` + basic + `"}`},
				{status: 202, header: http.Header{"Location": {"/v2/acme/app/blobs/uploads/1?_state=" + url.QueryEscape(secret)}}},
				{status: 201},
				{err: errors.New("proxy refused " + secret + " and " + coded + " at " + signed)},
				{status: 200, body: "half, and then", bodyErr: errors.New("broken by " + secret)},
				{status: 200, body: "done"},
			}}
			var got []string
			do := func(rt http.RoundTripper) {
				got = nil
				put := func(method, url, body string, header ...string) {
					text, err := tryAsk(t, rt, method, url, body, header...)
					got = append(got, fmt.Sprint(text, " ", err))
				}
				auth := []string{"Authorization", "Basic " + basic, "Cookie", "c=" + url.QueryEscape(secret), "X-Api-Key", secret}
				bearer := []string{"Authorization", "Bearer " + secret}
				put("GET", host+"/v2/", "", auth...)
				put("GET", host+"/token?scope=repository:acme/app:pull&service=ghcr.io&account="+url.QueryEscape(secret), "", auth...)
				put("POST", host+"/token", url.Values{"grant_type": {"password"}, "password": {secret}, "refresh_token": {secret}, "scope": {"repository:acme/app:pull"}}.Encode())
				put("GET", host+"/v2/acme/app/tags/list?n=10&last="+url.QueryEscape(secret), "", bearer...)
				put("GET", host+"/v2/acme/app/blobs/"+digestOf("public"), "", bearer...)
				put("GET", "https://cdn.example.com/"+digestOf("public")+"?se=2026&sig="+url.QueryEscape(secret), "")
				put("GET", host+"/v2/acme/app/tags/list?token="+url.QueryEscape(secret), "", "Authorization", "token "+secret)
				put("POST", host+"/v2/acme/app/blobs/uploads/", "", bearer...)
				put("PUT", host+"/v2/acme/app/blobs/uploads/1?_state="+url.QueryEscape(secret)+"&digest="+digestOf("x"), "x", bearer...)
				put("GET", host+"/v2/acme/app/tags/list", "", bearer...)
				put("GET", host+"/v2/acme/app/tags/list", "", bearer...)
				put("POST", host+"/users/acme/packages?x="+url.QueryEscape(secret), `{"secret":`+string(quoted)+`}`, "Content-Type", "application/json", "Authorization", "Bearer "+secret)
			}
			dir := record(t, cassette.Options{Secrets: []string{canaries["given"]}, StoreRequestBodies: true}, server, do)
			for _, leak := range leaks(t, dir) {
				t.Error(leak)
			}
			// What was taken out is taken out of the requests of a replay too, so that they
			// match: those whose secrets the server had not made up.
			if len(got) != 12 {
				t.Fatal("not all was asked")
			}
		})
	}
}

// TestLearnsFromEveryPlace: a secret of no known form is found in an answer that
// repeats it, wherever in the request it was.
func TestLearnsFromEveryPlace(t *testing.T) {
	for place, test := range map[string]struct {
		url    string
		header []string
	}{
		"a cookie among others": {tagsURL, []string{"Cookie", "theme=dark; sid=opaque-value-1234; last=x"}},
		"a parameter":           {tagsURL + "?access_token=opaque-value-1234", nil},
		"a user's password":     {"https://me:opaque-value-1234@ghcr.io/v2/acme/app/tags/list", nil},
		"a header":              {tagsURL, []string{"X-Api-Key", "opaque-value-1234"}},
	} {
		dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 403, body: "you sent opaque-value-1234"}}}, func(rt http.RoundTripper) {
			ask(t, rt, "GET", test.url, "", test.header...)
		})
		for path, data := range files(t, dir) {
			if bytes.Contains(data, []byte("opaque-value-1234")) {
				t.Errorf("%s: %s holds it: %s", place, path, data)
			}
		}
	}
}

// TestOnlyWhatIsListedIsWritten: what is too short to be searched for is kept out
// because the places that it may be in are not written.
func TestOnlyWhatIsListedIsWritten(t *testing.T) {
	const short = "hun-ter" // shorter than what is searched for
	server := &script{answers: []answer{
		{status: 200, header: http.Header{"X-Internal": {short}, "Server": {short}, "Set-Cookie": {"a=" + short}}, body: "x"},
		{status: 200, body: `{"token":"` + short + `","name":"` + short + `"}`},
		{status: 307, header: http.Header{"Location": {"https://user:" + short + "@cdn.example.com/x?key=" + short}}},
	}}
	dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
		ask(t, rt, "GET", tagsURL+"?key="+short, "", "Cookie", "a="+short, "X-Password", short, "User-Agent", short)
		ask(t, rt, "POST", host+"/token", "grant_type=password&password="+short+"&other="+short, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("x:"+short)))
		ask(t, rt, "GET", tagsURL, "", "Authorization", "Bearer "+short)
	})
	for path, data := range files(t, dir) {
		if bytes.Contains(data, []byte(short)) {
			t.Errorf("%s holds it: %s", path, data)
		}
	}
	named := record(t, cassette.Options{Headers: []string{"X-Internal"}, Query: []string{"key"}}, &script{answers: []answer{
		{status: 200, header: http.Header{"X-Internal": {"public"}}},
	}}, func(rt http.RoundTripper) { ask(t, rt, "GET", tagsURL+"?key=public", "") })
	if journal := string(journalOf(t, named)); !strings.Contains(journal, `"X-Internal":["public"]`) || !strings.Contains(journal, `"query":"key=public"`) {
		t.Errorf("what the options name is not written: %s", journal)
	}
}

// TestRefusesToKeepASecret: where a secret cannot be taken out, since the content
// has a digest, nothing is kept.
func TestRefusesToKeepASecret(t *testing.T) {
	for name, secret := range canaries {
		if name == "cookie" || name == "password" || name == "given" || name == "environment" || name == "registry token" {
			continue // these are known by their value alone, which the next test has
		}
		if name == "signature" {
			secret = "https://cdn.example.com/?sig=" + secret
		}
		for form, text := range map[string]string{
			"raw": secret, "in base64": base64.StdEncoding.EncodeToString([]byte(secret)),
			"in base64 behind a byte":   base64.StdEncoding.EncodeToString([]byte("=" + secret)),
			"in base64 behind two":      base64.URLEncoding.EncodeToString([]byte("==" + secret)),
			"URL-encoded":               url.QueryEscape(secret),
			"at the end of a large one": strings.Repeat("some text. ", 20_000) + secret,
		} {
			refuses(t, name+" "+form, "before "+text+" after", cassette.Options{})
		}
	}
}

func refuses(t *testing.T, name, content string, opts cassette.Options) {
	t.Helper()
	dir := t.TempDir()
	// Bytes arrive as they like: also so that a secret is in two pieces.
	server := roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{}, Request: req, ContentLength: int64(len(content)),
			Body: io.NopCloser(iotestHalf{strings.NewReader(content)}),
		}, nil
	})
	opts.Mode, opts.Base = cassette.ModeRecord, server
	c, err := cassette.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, "GET", host+"/v2/acme/app/blobs/"+digestOf(content), "", "Authorization", "Bearer "+canaries["registry token"]); got != "200 "+content {
		t.Errorf("%s: the program did not get what was sent", name)
	}
	var leak *cassette.LeakError
	if err := c.Close(); !errors.As(err, &leak) || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("%s: closed with %v", name, err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("%s: %d files were left", name, len(left))
	}
}

// iotestHalf reads a few bytes at a time.
type iotestHalf struct{ r io.Reader }

func (h iotestHalf) Read(p []byte) (int, error) { return h.r.Read(p[:min(len(p), 7)]) }

// TestRefusesToKeepWhatWasUsed: a credential is known by its value, however it
// looks, also where the content came before it.
func TestRefusesToKeepWhatWasUsed(t *testing.T) {
	t.Setenv("SOME_DEPLOY_TOKEN", canaries["environment"])
	used := canaries["registry token"]
	refuses(t, "a credential in use", "x "+used+" x", cassette.Options{})
	refuses(t, "the environment", "x "+url.QueryEscape(canaries["environment"])+" x", cassette.Options{})
	refuses(t, "given", "x "+base64.StdEncoding.EncodeToString([]byte("y:"+canaries["given"]))+" x", cassette.Options{Secrets: []string{canaries["given"]}})

	content := "a layer with " + used
	server := &script{answers: []answer{{status: 200, body: content}, {status: 200, body: "ok"}}}
	dir := t.TempDir()
	c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: server})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "GET", host+"/v2/acme/app/blobs/"+digestOf(content), "")
	ask(t, c, "GET", host+"/v2/acme/app/tags/list", "", "Authorization", "Bearer "+used)
	var leak *cassette.LeakError
	if err := c.Close(); !errors.As(err, &leak) {
		t.Errorf("closed with %v", err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("%d files were left", len(left))
	}
}

// TestRedactionKeepsMatchingStrict: a replay with other secrets matches, and one for
// another scope does not.
func TestRedactionKeepsMatchingStrict(t *testing.T) {
	issue := func(token string) *script {
		return &script{answers: []answer{{status: 200, body: `{"token":"` + token + `"}`}, {status: 200, body: "tags"}}}
	}
	do := func(password, scope string) func(http.RoundTripper) error {
		return func(rt http.RoundTripper) error {
			text, err := tryAsk(t, rt, "GET", host+"/token?service=ghcr.io&scope="+url.QueryEscape(scope), "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("me:"+password)))
			if err != nil {
				return err
			}
			var answer struct{ Token string }
			if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "200 ")), &answer); err != nil || answer.Token == "" {
				return fmt.Errorf("no token in %q: %w", text, err)
			}
			text, err = tryAsk(t, rt, "GET", host+"/v2/acme/app/tags/list", "", "Authorization", "Bearer "+answer.Token)
			if err == nil && text != "200 tags" {
				err = errors.New(text)
			}
			return err
		}
	}
	pull, push := "repository:acme/app:pull", "repository:acme/app:pull,push"
	dir := record(t, cassette.Options{}, issue("djE6dG9rZW4tb2YtdGhlLXJlY29yZGluZw=="), func(rt http.RoundTripper) {
		if err := do("ghp_CANARYclassic00000000000000000000001", pull)(rt); err != nil {
			t.Fatal(err)
		}
	})
	replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) {
		if err := do("another password", pull)(rt); err != nil {
			t.Error(err)
		}
	})
	both := record(t, cassette.Options{}, &script{answers: []answer{
		{status: 200, body: `{"token":"first token of them"}`}, {status: 200, body: "tags"}, {status: 200, body: `{"token":"second token of them"}`}, {status: 403},
	}}, func(rt http.RoundTripper) {
		if err := do("x", push)(rt); err != nil {
			t.Fatal(err)
		}
		if err := do("x", pull)(rt); err == nil || err.Error() != "403 " {
			t.Fatal(err)
		}
	})
	replay(t, cassette.Options{}, both, func(rt http.RoundTripper) {
		// The other way round: each token has the answer of its own scope.
		if err := do("y", pull)(rt); err == nil || err.Error() != "403 " {
			t.Error(err)
		}
		if err := do("y", push)(rt); err != nil {
			t.Error(err)
		}
	})
}
