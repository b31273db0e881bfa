package cassette

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The HTTP Archive format, version 1.2. Fields that begin with an underscore are ours,
// as the format allows.
type (
	harLog struct {
		Version string     `json:"version"`
		Creator harCreator `json:"creator"`
		Comment string     `json:"comment,omitempty"`
	}
	harCreator struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	harEntry struct {
		Started  string      `json:"startedDateTime"`
		Time     float64     `json:"time"`
		Request  harRequest  `json:"request"`
		Response harResponse `json:"response"`
		Cache    struct{}    `json:"cache"`
		Timings  harTimings  `json:"timings"`
		Comment  string      `json:"comment,omitempty"`
		Role     string      `json:"_role"`
	}
	harRequest struct {
		Method      string     `json:"method"`
		URL         string     `json:"url"`
		HTTPVersion string     `json:"httpVersion"`
		Cookies     []harPair  `json:"cookies"`
		Headers     []harPair  `json:"headers"`
		Query       []harPair  `json:"queryString"`
		PostData    *harPosted `json:"postData,omitempty"`
		HeadersSize int        `json:"headersSize"`
		BodySize    int64      `json:"bodySize"`
	}
	harResponse struct {
		Status      int        `json:"status"`
		StatusText  string     `json:"statusText"`
		HTTPVersion string     `json:"httpVersion"`
		Cookies     []harPair  `json:"cookies"`
		Headers     []harPair  `json:"headers"`
		Content     harContent `json:"content"`
		RedirectURL string     `json:"redirectURL"`
		HeadersSize int        `json:"headersSize"`
		BodySize    int64      `json:"bodySize"`
		Error       string     `json:"_error,omitempty"`
	}
	harPosted struct {
		MimeType string    `json:"mimeType"`
		Params   []harPair `json:"params"`
		Text     string    `json:"text"`
		Comment  string    `json:"comment,omitempty"`
	}
	harContent struct {
		Size     int64  `json:"size"`
		MimeType string `json:"mimeType"`
		Text     string `json:"text,omitempty"`
		Encoding string `json:"encoding,omitempty"`
		Comment  string `json:"comment,omitempty"`
	}
	harPair struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	harTimings struct {
		Send    float64 `json:"send"`
		Wait    float64 `json:"wait"`
		Receive float64 `json:"receive"`
	}
)

// WriteHAR writes a cassette that is open for [ModeReplay] as an HTTP Archive 1.2, for
// the tools that read one. Text is in it as it is and anything else in base64; of a
// body that is not kept, or has more than maxBody bytes, there is the digest. What was
// secret is a placeholder there too.
//
// Errors: [oci.ErrIntegrity] for a body that was changed; those of w.
func (c *Cassette) WriteHAR(w io.Writer, maxBody int64) error {
	head, err := json.Marshal(harLog{Version: "1.2", Creator: harCreator{"ghcr cassette", "1"}, Comment: c.Annotations()[AnnotationOrigin] + " " + string(c.Digest())})
	if err != nil {
		return err
	}
	// One entry at a time: all of them need not fit into memory.
	if _, err := fmt.Fprintf(w, `{"log":%s,"entries":[`, strings.TrimSuffix(string(head), "}")); err != nil {
		return err
	}
	began := c.began()
	for i := range c.Interactions() {
		entry, err := c.harEntry(i, began, maxBody)
		if err != nil {
			return fmt.Errorf("interaction %d: %w", i.Seq, err)
		}
		line, err := marshal(entry)
		if err != nil {
			return err
		}
		separator := ",\n"
		if i.Seq == 1 {
			separator = "\n"
		}
		if _, err := fmt.Fprintf(w, "%s%s", separator, line); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, "\n]}}\n")
	return err
}

// began is when the recording began, as far as is known: it was sealed at its end.
func (c *Cassette) began() time.Time {
	sealed, _ := time.Parse(time.RFC3339, c.Annotations()[AnnotationCreated])
	var length time.Duration
	for i := range c.Interactions() {
		length = max(length, i.Time.Start+i.Time.Duration)
	}
	return sealed.Add(-length)
}

func (c *Cassette) harEntry(i *Interaction, began time.Time, maxBody int64) (*harEntry, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	q, a := &i.Request, &i.Response
	e := &harEntry{
		Started: began.Add(i.Time.Start).UTC().Format("2006-01-02T15:04:05.000Z07:00"), Time: ms(i.Time.Duration),
		Timings: harTimings{Wait: ms(i.Time.FirstByte), Receive: ms(i.Time.Duration) - ms(i.Time.FirstByte)}, Role: q.Role,
		Request: harRequest{
			Method: q.Method, URL: q.URL(), HTTPVersion: protoOf(a.Proto), Cookies: []harPair{}, Headers: harHeaders(q.Header),
			Query: harQuery(q.Query), HeadersSize: -1, BodySize: q.Body.Size,
		},
		Response: harResponse{
			Status: a.Status, StatusText: http.StatusText(a.Status), HTTPVersion: protoOf(a.Proto), Cookies: []harPair{}, Headers: harHeaders(a.Header),
			RedirectURL: a.Header.Get("Location"), HeadersSize: -1, BodySize: a.Body.Size,
		},
	}
	if q.Auth != "" {
		e.Request.Headers = append(e.Request.Headers, harPair{"Authorization", q.Auth})
	}
	if q.Body.Mode != BodyEmpty {
		text, encoding, comment, err := c.harBody(&q.Body, maxBody)
		if err != nil {
			return nil, err
		}
		if encoding != "" {
			comment = encoding // the format has no field for it here
		}
		e.Request.PostData = &harPosted{typeOf(q.Header), []harPair{}, text, comment}
	}
	text, encoding, comment, err := c.harBody(&a.Body, maxBody)
	if err != nil {
		return nil, err
	}
	e.Response.Content = harContent{a.Body.Size, typeOf(a.Header), text, encoding, comment}
	if a.Error != nil {
		e.Response.Error = a.Error.Class + ": " + a.Error.Text
	}
	return e, nil
}

func protoOf(proto string) string {
	if proto == "" {
		return "HTTP/1.1"
	}
	return proto
}

func typeOf(h http.Header) string {
	if t := h.Get("Content-Type"); t != "" {
		return t
	}
	return "application/octet-stream"
}

func harHeaders(h http.Header) []harPair {
	list := []harPair{}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			list = append(list, harPair{name, v})
		}
	}
	return list
}

func harQuery(query string) []harPair {
	list := []harPair{}
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if part != "" && err1 == nil && err2 == nil {
			list = append(list, harPair{n, v})
		}
	}
	return list
}

func (c *Cassette) harBody(b *Body, maxBody int64) (text, encoding, comment string, err error) {
	switch {
	case b.Mode == BodyEmpty:
		return "", "", "", nil
	case b.Mode == BodyElided && c.play.elsewhere == nil, b.Size > maxBody:
		return "", "", fmt.Sprintf("left out: %s, %d bytes", b.Digest, b.Size), nil
	}
	r, err := c.OpenBody(b)
	if err != nil {
		return "", "", "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return "", "", "", err
	}
	if b.Partial {
		comment = "cut off there"
	}
	if utf8.Valid(data) {
		return string(data), "", comment, nil
	}
	return base64.StdEncoding.EncodeToString(data), "base64", comment, nil
}
