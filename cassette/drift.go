package cassette

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// DriftError is what a server answers otherwise than it did.
type DriftError struct{ Drifts []Drift }

// Drift is one answer that is not as it was.
type Drift struct {
	Request     Request
	Recorded    *Interaction // nil if the request was not recorded
	Differences []Difference
}

// Error lists the differences.
func (e *DriftError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cassette: %d answers are not as they were recorded", len(e.Drifts))
	for _, d := range e.Drifts {
		fmt.Fprintf(&b, "\n  %s %s", d.Request.Method, d.Request.URL())
		if d.Recorded == nil {
			b.WriteString("\n    was not recorded")
		}
		for _, diff := range d.Differences {
			b.WriteString("\n    " + diff.String())
		}
	}
	return b.String()
}

// drifting collects differences.
type drifting struct {
	mu     sync.Mutex
	drifts []Drift
}

func (d *drifting) add(found Drift) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drifts = append(d.drifts, found)
}

func (d *drifting) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.drifts) == 0 {
		return nil
	}
	return &DriftError{slices.SortedStableFunc(slices.Values(d.drifts), func(a, b Drift) int {
		return cmp.Compare(a.Request.URL(), b.Request.URL())
	})}
}

// driftTrip sends on what only reads. Tokens are needed for that, so they are
// fetched whatever the method.
func (c *Cassette) driftTrip(req *http.Request) (*http.Response, error) {
	r := routeOf(req.URL)
	_, minted := c.minted(req)
	if !isSafe(req.Method) && r.role != roleToken || minted {
		return c.play.roundTrip(req)
	}
	if r.role == roleToken {
		return c.rec.roundTrip(req, nil)
	}
	l, it, err := c.play.match(req, true)
	if err != nil {
		return nil, err
	}
	if it == nil {
		c.drift.add(Drift{Request: l.request})
		return c.rec.roundTrip(req, nil)
	}
	return c.rec.roundTrip(req, func(now *Interaction) {
		if diffs := compareAnswers(it.Interaction, now); len(diffs) > 0 {
			c.drift.add(Drift{Request: it.Request, Recorded: it.Interaction, Differences: diffs})
		}
	})
}

// volatile are headers that differ each time and mean nothing by it.
var volatile = set("Date", "Etag", "Last-Modified", "X-Github-Request-Id", "X-Poll-Interval", "Retry-After", "Content-Length", "Docker-Upload-Uuid")

// compareAnswers compares with what servers make up taken out.
func compareAnswers(then, now *Interaction) []Difference {
	var diffs []Difference
	differ := func(field, a, b string) {
		if a != b {
			diffs = append(diffs, Difference{field, a, b})
		}
	}
	a, b := &then.Response, &now.Response
	differ("status", fmt.Sprint(a.Status), fmt.Sprint(b.Status))
	differ("error", failureClassOf(a.Error), failureClassOf(b.Error))
	names := map[string]bool{}
	for name := range a.Header {
		names[name] = true
	}
	for name := range b.Header {
		names[name] = true
	}
	for _, name := range sorted(names) {
		if !volatile[name] && !strings.Contains(name, "Ratelimit") {
			differ(name, numberless(strings.Join(a.Header[name], ", ")), numberless(strings.Join(b.Header[name], ", ")))
		}
	}
	if !a.Body.Partial && !b.Body.Partial && (a.Body.Mode == BodyEmpty) == (b.Body.Mode == BodyEmpty) && !a.Body.Redacted && !b.Body.Redacted {
		differ("body", a.Body.key(), b.Body.key())
	} else if (a.Body.Mode == BodyEmpty) != (b.Body.Mode == BodyEmpty) {
		differ("body", a.Body.key(), b.Body.key())
	}
	return diffs
}

func failureClassOf(f *Failure) string {
	if f == nil {
		return ""
	}
	return f.Class
}

func sorted(names map[string]bool) []string {
	var list []string
	for name := range names {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// minted tells whether a request uses what a replay made up, which no server
// knows: a token, which is returned and can be replaced, or anything else.
func (c *Cassette) minted(req *http.Request) (token string, other bool) {
	if _, value, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok && strings.HasPrefix(value, mintedToken) {
		token = value
	}
	return token, strings.Contains(req.URL.Path, mintedUpload) || strings.Contains(req.URL.RawQuery, mintedSigned)
}

// appendTrip answers from the cassette, or sends the request on and adds it.
func (c *Cassette) appendTrip(req *http.Request) (*http.Response, error) {
	token, other := c.minted(req)
	body := &readOnce{ReadCloser: req.Body}
	seen := req
	if req.Body != nil && req.Body != http.NoBody {
		seen = req.Clone(req.Context())
		seen.Body = body
	}
	l, it, err := c.play.match(seen, false)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	if it != nil {
		defer closeBody(req)
		return c.play.answer(req, l, it, c.rec.began)
	}
	refuse := func(reason string) (*http.Response, error) {
		closeBody(req)
		miss := c.play.miss(l)
		miss.Reason = reason
		return nil, miss
	}
	if other {
		return refuse("no server knows the upload session or signed URL that the replay made up: record anew")
	}
	out := req.Clone(req.Context())
	if body.read {
		if req.GetBody == nil {
			return refuse("its body was read and cannot be read again: set GetBody")
		}
		closeBody(req)
		if out.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	if token != "" {
		live, err := c.realToken(req, token)
		if err != nil {
			closeBody(out)
			return nil, err
		}
		out.Header.Set("Authorization", "Bearer "+live)
	}
	return c.rec.roundTrip(out, nil)
}

// readOnce notes whether it was read.
type readOnce struct {
	io.ReadCloser
	read bool
}

func (r *readOnce) Read(p []byte) (int, error) {
	r.read = true
	return r.ReadCloser.Read(p)
}

// realToken gets a token for what one that the replay made up was asked for.
func (c *Cassette) realToken(req *http.Request, minted string) (string, error) {
	c.play.mu.Lock()
	ask := c.play.tokens[minted]
	c.play.mu.Unlock()
	if ask == nil {
		return "", fmt.Errorf("cassette %s: the token of a request is of another replay", c.dir)
	}
	again := ask.Clone(req.Context())
	if ask.GetBody != nil {
		var err error
		if again.Body, err = ask.GetBody(); err != nil {
			return "", err
		}
	}
	resp, err := c.base.RoundTrip(again)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxText))
	if err != nil {
		return "", err
	}
	var answer struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(data, &answer) != nil {
		return "", fmt.Errorf("cassette %s: get a token for what is not recorded: %s answered %d", c.dir, req.URL.Host, resp.StatusCode)
	}
	value := cmp.Or(answer.Token, answer.Access)
	c.names.secrets.add(value)
	c.names.mu.Lock()
	defer c.names.mu.Unlock()
	c.names.tokens[value] = c.names.tokens[minted]
	return value, nil
}
