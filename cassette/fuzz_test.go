package cassette

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

// FuzzInteraction: a line is refused, or is as this package writes it, and can be
// asked for and answered.
func FuzzInteraction(f *testing.F) {
	for _, line := range []string{
		`{"v":1,"seq":1,"prev":"","t":{"start":1,"ttfb":1,"dur":2},"epoch":0,"req":{"m":"POST","role":"registry","route":"upload-start","scheme":"https","host":"ghcr.io","path":"/v2/a/b/blobs/uploads/","auth":"bearer","body":{"mode":"empty"}},"res":{"status":202,"proto":"HTTP/1.1","hdr":{"Location":["/v2/a/b/blobs/upload/{upload:1}?x={signed}"]},"len":0,"body":{"mode":"empty"}},"cap":[{"var":"upload:1","in":"Location"}]}`,
		`{"v":1,"seq":1,"prev":"","t":{"start":1,"ttfb":1,"dur":2},"epoch":0,"req":{"m":"PATCH","role":"registry","route":"upload","scheme":"https","host":"ghcr.io","path":"/v2/a/b/blobs/upload/{upload:1}","hdr":{"Content-Range":["0-9"]},"body":{"mode":"elided","digest":"sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882","size":10,"partial":true}},"res":{"len":0,"body":{"mode":"empty"},"err":{"class":"connection-reset","text":"reset"}}}`,
		`{"v":1,"seq":1,"prev":"","t":{"start":1,"ttfb":1,"dur":2},"epoch":3,"req":{"m":"GET","role":"cdn","route":"signed-blob","scheme":"https","host":"localhost:1","path":"/sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882","query":"sig={signed}","body":{"mode":"empty"}},"res":{"status":206,"proto":"HTTP/1.1","hdr":{"Content-Range":["bytes 1-2/10"]},"len":2,"body":{"mode":"generated","digest":"sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882","size":10,"seed":"0000000000000000000000000000000000000000000000000000000000000000","partial":true}}}`,
	} {
		i, err := decodeInteraction([]byte(line + "\n"))
		if err != nil {
			f.Fatal(err)
		}
		if again, err := i.encode(); err != nil || string(again) != line+"\n" {
			f.Fatal(string(again), err)
		}
		f.Add([]byte(line + "\n"))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		i, err := decodeInteraction(line)
		if err != nil {
			return
		}
		again, err := i.encode()
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("written back as %q, %v", again, err)
		}
		checkContent(i)
		compareAnswers(i, i)
		if i.Response.Error != nil {
			if err := i.Response.Error.err(); err.Error() != i.Response.Error.Text {
				t.Errorf("error %q reads %q", i.Response.Error.Text, err)
			}
		}
		for _, order := range []Order{OrderPerKey, OrderNone, OrderStrict} {
			known := newSecrets(nil)
			p, err := newPlayer(Options{Order: order}, &store{}, &tape{entries: []*Interaction{i, i}}, newNames(known, nil, nil))
			if err != nil {
				t.Fatal(err)
			}
			l := &live{request: i.Request, key: i.Request.key(), epoch: i.Epoch, prefixes: map[int64]oci.Digest{i.Request.Body.Size: i.Request.Body.Digest}}
			at := p.index.plain
			if sessionIn(i.Request.Path) > 0 {
				at = p.index.orphan
			}
			it := p.index.take(at.edges[l.key], l)
			if it == nil && order != OrderStrict {
				t.Error("it is not found by itself")
			}
			p.miss(l)
		}
	})
}

// FuzzSecrets: what is redacted is not found any more, and where it is cut does
// not matter.
func FuzzSecrets(f *testing.F) {
	f.Add("x ghp_0123456789abcdefghij y", 3)
	f.Add("Bearer abcdefghijklmnopqrstuvwxyz eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", 20)
	f.Add("?sig=abcdefghijklmnopqrstuvwxyz&x=Z2hwXzAxMjM0NTY3ODlhYmNkZWZnaGlq", 9)
	f.Add("the known secret, dGhlIGtub3duIHNlY3JldA==", 9)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		known := newSecrets([]string{"the known secret"})
		find := func(parts ...string) string {
			scan := &scanner{secrets: known}
			for _, part := range parts {
				io.Copy(scan, strings.NewReader(part))
			}
			return scan.finish()
		}
		cut = min(max(cut, 0), len(text))
		if whole, parts := find(text), find(text[:cut], text[cut:]); whole != parts {
			t.Errorf("%q: found %q in one piece and %q in two", text, whole, parts)
		}
		if rest := known.redact(text); find(rest) != "" {
			t.Errorf("%q: in %q there is still %s", text, rest, find(rest))
		}
	})
}

// FuzzNames: what is written of a URL that an answer brought can be read again.
func FuzzNames(f *testing.F) {
	f.Add("/v2/a/b/blobs/upload/id?_state=x&digest=sha256:y", "https://cdn.example.com/x?sig=abcdefghijklmnopqrstuv")
	f.Add("//host/v2/blobs/uploads/a/b/c%2F?n=1#f", "{upload:1}")
	f.Fuzz(func(t *testing.T, location, link string) {
		n := newNames(newSecrets(nil), nil, nil)
		req := &http.Request{Method: "POST", URL: &url.URL{Scheme: "https", Host: "ghcr.io", Path: "/v2/a/b/blobs/uploads/"}, Header: http.Header{}}
		q, up := n.request(req)
		h, captures := n.response(req, &http.Response{Header: http.Header{"Location": {location}, "Link": {"<" + link + ">"}}}, up)
		i := &Interaction{
			Version: formatVersion, Seq: 1, Request: q, Captures: captures,
			Response: Response{Status: 202, Header: h, Body: Body{Mode: BodyEmpty}},
		}
		line, err := i.encode()
		if err != nil {
			return
		}
		if _, err := decodeInteraction(line); err != nil {
			t.Errorf("what was written is refused: %v: %s", errors.Unwrap(err), line)
		}
	})
}
