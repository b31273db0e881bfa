package cassette

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// formatVersion is what a line of the journal begins with.
const formatVersion = 1

// Interaction is one request and what came of it, as the journal holds it: with
// nothing secret in it, and with what servers make up anew each time replaced by
// placeholders, such as "{upload:1}".
type Interaction struct {
	Version int `json:"v"`
	Seq     int `json:"seq"` // from 1, in the order of completion
	// Prev is the digest of the line before, so that no line can be changed, taken
	// out, added or moved alone.
	Prev oci.Digest `json:"prev"`
	Time Timing     `json:"t"`
	// Epoch is how many writes had been answered, before the request was made, that
	// its answer may depend on. It tells apart requests that are otherwise the same.
	Epoch    int      `json:"epoch"`
	Request  Request  `json:"req"`
	Response Response `json:"res"`
	// Captures are what the answer brought that later requests use.
	Captures []Capture `json:"cap,omitempty"`
}

// Timing is when an interaction took place.
type Timing struct {
	Start     time.Duration `json:"start"` // since the recording began
	FirstByte time.Duration `json:"ttfb"`  // from the start to the answer's header, or its failure
	Duration  time.Duration `json:"dur"`   // from the start to the answer's end
}

// Request is what was asked, as far as it decides the answer.
type Request struct {
	Method string `json:"m"`
	Role   string `json:"role"` // registry, token, cdn, api or other
	Route  string `json:"route"`
	Scheme string `json:"scheme"`
	Host   string `json:"host"`
	Path   string `json:"path"` // escaped
	Query  string `json:"query,omitempty"`
	// Auth is how the request was authorized, without any secret: empty, "basic" or
	// "bearer" with the kind of GitHub's token where it is one, as in "bearer (classic)",
	// or for a token that an earlier answer brought "token" with what it was issued for.
	Auth   string      `json:"auth,omitempty"`
	Header http.Header `json:"hdr,omitempty"`
	Body   Body        `json:"body"`
}

// URL returns what was asked for, with placeholders where they are.
func (r *Request) URL() string {
	u := r.Scheme + "://" + r.Host + r.Path
	if r.Query != "" {
		u += "?" + r.Query
	}
	return u
}

// Response is what was answered.
type Response struct {
	Status int         `json:"status,omitempty"` // zero if there was no answer
	Proto  string      `json:"proto,omitempty"`
	Header http.Header `json:"hdr,omitempty"`
	// Length is the body's size as it was announced; -1 if it was not.
	Length int64 `json:"len"`
	Body   Body  `json:"body"`
	// Error is why there was no answer, or why its body ended early.
	Error *Failure `json:"err,omitempty"`
}

// The ways in which a body is kept.
const (
	BodyEmpty     = "empty"
	BodyInline    = "inline"    // in Text
	BodyBlob      = "blob"      // in a file by its digest
	BodySlice     = "slice"     // a part of such a file
	BodyElided    = "elided"    // elsewhere, or nowhere: only digest and size are kept
	BodyGenerated = "generated" // made from a seed; see [Generated]
)

// Body says what a body was and how it is kept.
type Body struct {
	Mode   string     `json:"mode"`
	Digest oci.Digest `json:"digest,omitempty"` // of all bytes that passed
	Size   int64      `json:"size,omitempty"`
	Text   string     `json:"text,omitempty"`
	Of     oci.Digest `json:"of,omitempty"` // the file that a slice is of
	Offset int64      `json:"off,omitempty"`
	Seed   string     `json:"seed,omitempty"` // of what is generated, in hexadecimal
	// Partial says that the body did not end here: its reader or its connection did.
	Partial bool `json:"partial,omitempty"`
	// Redacted says that secrets were replaced, so that the digest is that of what is
	// kept.
	Redacted bool `json:"redacted,omitempty"`
}

// Capture is a value that an answer brought and later requests use.
type Capture struct {
	Var string `json:"var"` // "upload:1", "signed", or "token" with what it is for
	In  string `json:"in"`  // "body", or the name of a header
}

const (
	maxLine        = 1 << 20
	maxJournal     = 1 << 30
	maxInline      = 4 << 10
	maxHeaderLines = 256
)

// encode writes the line of an interaction. There is one way to write it.
func (i *Interaction) encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(i); err != nil {
		return nil, err
	}
	if buf.Len() > maxLine {
		return nil, fmt.Errorf("an interaction of %d bytes is too large for the journal: %s %s", buf.Len(), i.Request.Method, i.Request.URL())
	}
	return buf.Bytes(), nil
}

// decodeInteraction reads a line, which must be exactly as encode writes it: JSON
// has many ways to say the same, and one of them may be read differently elsewhere.
func decodeInteraction(line []byte) (*Interaction, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	i := new(Interaction)
	if err := dec.Decode(i); err != nil {
		return nil, err
	}
	if i.Version != formatVersion {
		return nil, fmt.Errorf("it has version %d of the format; only %d is understood", i.Version, formatVersion)
	}
	canonical, err := i.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, line) {
		return nil, errors.New("it is not written as this format is")
	}
	return i, i.check()
}

// maxDelay bounds the times of a recording, which a replay may wait for.
const maxDelay = 24 * time.Hour

var (
	methodForm = pattern(`^[A-Z]{1,20}$`)
	hostForm   = pattern(`^[a-z0-9._:\[\]-]{1,255}$`)
	headerForm = pattern(`^[A-Za-z0-9-]{1,100}$`)
	seedForm   = pattern(`^[0-9a-f]{64}$`)
)

// check finds what no recording holds.
func (i *Interaction) check() error {
	q, a := &i.Request, &i.Response
	switch {
	case i.Seq < 1 || i.Epoch < 0:
		return errors.New("it has a negative number")
	case i.Time.Start < 0 || i.Time.FirstByte < 0 || i.Time.Duration < i.Time.FirstByte || i.Time.Duration > maxDelay:
		return errors.New("its times cannot be")
	case !methodForm().MatchString(q.Method):
		return fmt.Errorf("its method is %q", q.Method)
	case q.Scheme != "https" && q.Scheme != "http":
		return fmt.Errorf("its scheme is %q", q.Scheme)
	case !hostForm().MatchString(q.Host):
		return fmt.Errorf("its host is %q", q.Host)
	case !strings.HasPrefix(q.Path, "/") || !printable(q.Path) || !printable(q.Query) || !printable(q.Auth):
		return errors.New("its URL is malformed")
	case a.Status == 0 && a.Error == nil || a.Status != 0 && (a.Status < 200 || a.Status > 599):
		return fmt.Errorf("its status is %d", a.Status)
	case a.Length < -1:
		return errors.New("its length is negative")
	case !printable(a.Proto):
		return errors.New("its protocol is malformed")
	}
	if _, err := url.ParseRequestURI(q.Path); err != nil {
		return errors.New("its path is malformed")
	}
	for _, h := range []http.Header{q.Header, a.Header} {
		lines := 0
		for name, values := range h {
			lines += len(values)
			if !headerForm().MatchString(name) || http.CanonicalHeaderKey(name) != name || lines > maxHeaderLines {
				return errors.New("it has a malformed header")
			}
			for _, v := range values {
				if !printable(v) {
					return fmt.Errorf("its header %s is malformed", name)
				}
			}
		}
	}
	if err := a.Error.check(); err != nil {
		return err
	}
	for _, c := range i.Captures {
		if c.Var == "" || !printable(c.Var) || c.In != "body" && !headerForm().MatchString(c.In) {
			return errors.New("it has a malformed capture")
		}
	}
	if err := q.Body.check(); err != nil {
		return fmt.Errorf("request's body: %w", err)
	}
	if err := a.Body.check(); err != nil {
		return fmt.Errorf("answer's body: %w", err)
	}
	return nil
}

// printable tells whether a string can be in a header or URL, and be shown.
func printable(s string) bool {
	for _, r := range s {
		if r < 0x20 && r != '\t' || r == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

func (b *Body) check() error {
	if b.Size < 0 || b.Offset < 0 || b.Size > maxBody || b.Offset > maxBody {
		return errors.New("its size cannot be")
	}
	if b.Mode == BodyEmpty {
		if *b != (Body{Mode: BodyEmpty, Partial: b.Partial}) {
			return errors.New("it is empty and has content")
		}
		return nil
	}
	if err := checkDigest(b.Digest); err != nil {
		return err
	}
	want := Body{Mode: b.Mode, Digest: b.Digest, Size: b.Size, Partial: b.Partial, Redacted: b.Redacted}
	switch b.Mode {
	case BodyInline:
		want.Text = b.Text
		if int64(len(b.Text)) != b.Size || b.Size > maxInline {
			return errors.New("its text has another size")
		}
		if digest.FromString(b.Text) != b.Digest {
			return &oci.IntegrityError{What: "its text", Want: b.Digest, Got: digest.FromString(b.Text)}
		}
	case BodySlice:
		want.Of, want.Offset = b.Of, b.Offset
		if err := checkDigest(b.Of); err != nil {
			return err
		}
	case BodyGenerated:
		want.Seed, want.Offset = b.Seed, b.Offset
		if !seedForm().MatchString(b.Seed) {
			return errors.New("its seed is malformed")
		}
	case BodyBlob, BodyElided:
	default:
		return fmt.Errorf("it is kept as %q", b.Mode)
	}
	if *b != want {
		return fmt.Errorf("it is kept as %q and says more than that needs", b.Mode)
	}
	return nil
}

// maxBody is how large a body may be: a layer at most.
const maxBody = oci.MaxLayerSize

// checkDigest allows what a file is named by, and nothing that could lead out of
// the directory.
func checkDigest(d oci.Digest) error {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return err
	}
	if d.Algorithm() != digest.SHA256 {
		return oci.Invalid("digest %s: a cassette names content by sha256", d)
	}
	return nil
}
