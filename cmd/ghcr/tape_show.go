package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/oci"
)

// taped is an interaction as tape show prints it.
type taped struct {
	Seq      int       `json:"seq"`
	Method   string    `json:"method"`
	Role     string    `json:"role"`
	Route    string    `json:"route"`
	URL      string    `json:"url"`
	Auth     string    `json:"auth"`
	Status   int       `json:"status"` // zero if there was no answer
	Error    *string   `json:"error"`
	Sent     tapedBody `json:"sent"`
	Received tapedBody `json:"received"`
	// Milliseconds since the recording began, to the answer's header, and to its end.
	Start     float64 `json:"start"`
	FirstByte float64 `json:"firstByte"`
	Duration  float64 `json:"duration"`
	Epoch     int     `json:"epoch"`
	// With --seq alone.
	RequestHeader http.Header `json:"requestHeader,omitempty"`
	Header        http.Header `json:"header,omitempty"`
	Text          *string     `json:"text,omitempty"` // the answer's body
}

type tapedBody struct {
	Mode     string     `json:"mode"`
	Digest   oci.Digest `json:"digest"`
	Size     int64      `json:"size"`
	Partial  bool       `json:"partial"`
	Redacted bool       `json:"redacted"`
}

func newTapedBody(b *cassette.Body) tapedBody {
	return tapedBody{b.Mode, b.Digest, b.Size, b.Partial, b.Redacted}
}

// String is short: "blob 1.2 kB, cut off".
func (b tapedBody) String() string {
	if b.Mode == cassette.BodyEmpty {
		return "-"
	}
	s := b.Mode + " " + size(b.Size)
	if b.Mode == cassette.BodyElided {
		s = size(b.Size) + ", digest only"
	}
	if b.Partial {
		s += ", cut off"
	}
	if b.Redacted {
		s += ", redacted"
	}
	return s
}

func newTaped(i *cassette.Interaction) taped {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	t := taped{
		Seq: i.Seq, Method: i.Request.Method, Role: i.Request.Role, Route: i.Request.Route, URL: i.Request.URL(), Auth: i.Request.Auth,
		Status: i.Response.Status, Sent: newTapedBody(&i.Request.Body), Received: newTapedBody(&i.Response.Body),
		Start: ms(i.Time.Start), FirstByte: ms(i.Time.FirstByte), Duration: ms(i.Time.Duration), Epoch: i.Epoch,
	}
	if i.Response.Error != nil {
		text := i.Response.Error.Class + ": " + i.Response.Error.Text
		t.Error = &text
	}
	return t
}

// outcome is the status, or why there was none.
func (t *taped) outcome(i *cassette.Interaction) string {
	switch {
	case t.Status == 0:
		return i.Response.Error.Class
	case i.Response.Error != nil:
		return strconv.Itoa(t.Status) + " " + i.Response.Error.Class
	}
	return strconv.Itoa(t.Status)
}

func (a *app) tapeShowCommand() *cobra.Command {
	var seq int
	cmd := &cobra.Command{
		Use:   "show DIR",
		Short: "List what a cassette has recorded",
		Long: `List the interactions of a cassette: each attempt, each fetch of a token and each hop
of a redirect is one. With --seq N one of them is printed whole: headers, and the
answer's body where it is text. What was secret is a placeholder.`,
		Example: "  ghcr tape show tape\n  ghcr tape show tape --seq 1\n  ghcr tape show tape --jq '.[].url'",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := readTape(given[0])
			if err != nil {
				return err
			}
			defer c.Close()
			list := slices.Collect(c.Interactions())
			if cmd.Flags().Changed("seq") {
				if seq < 1 || seq > len(list) {
					return usage("--seq %d: the cassette has %s", seq, plural(len(list), "interaction"))
				}
				return a.showInteraction(c, list[seq-1])
			}
			return a.showTape(c, list)
		},
	}
	cmd.Flags().IntVar(&seq, "seq", 0, "print interaction `N` whole")
	return cmd
}

func (a *app) showTape(c *cassette.Cassette, list []*cassette.Interaction) error {
	r := result{head: []string{"SEQ", "METHOD", "ROLE", "HOST", "PATH", "AUTH", "STATUS", "SENT", "RECEIVED", "TIME"}}
	all := make([]taped, 0, len(list))
	for _, i := range list {
		t := newTaped(i)
		all = append(all, t)
		r.ids = append(r.ids, strconv.Itoa(i.Seq))
		path := i.Request.Path
		if i.Request.Query != "" {
			path += "?" + i.Request.Query
		}
		r.rows = append(r.rows, []string{
			strconv.Itoa(i.Seq), i.Request.Method, i.Request.Role, i.Request.Host, shorten(path), orDash(i.Request.Auth), t.outcome(i),
			t.Sent.String(), t.Received.String(), i.Time.Duration.Round(10 * time.Microsecond).String(),
		})
		r.plain = append(r.plain, []string{
			strconv.Itoa(i.Seq), i.Request.Method, i.Request.Role, i.Request.Host, path, orDash(i.Request.Auth), t.outcome(i),
			t.Sent.Mode, strconv.FormatInt(t.Sent.Size, 10), t.Received.Mode, strconv.FormatInt(t.Received.Size, 10), i.Time.Duration.String(),
		})
	}
	r.data = all
	r.foot = fmt.Sprintf("%s, %s, %s", plural(len(list), "interaction"), c.Annotations()[cassette.AnnotationOrigin], c.Digest())
	return a.print(r)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shorten leaves the beginning of each digest in a path, for a person.
func shorten(path string) string {
	for _, colon := range []string{":", "%3A"} {
		parts := strings.Split(path, "sha256"+colon)
		for n := range parts[1:] {
			if p := &parts[n+1]; len(*p) >= 64 {
				*p = (*p)[:12] + "…" + (*p)[64:]
			}
		}
		path = strings.Join(parts, "sha256"+colon)
	}
	return path
}

// maxShownBody is how much of a body is printed.
const maxShownBody = 64 << 10

func (a *app) showInteraction(c *cassette.Cassette, i *cassette.Interaction) error {
	t := newTaped(i)
	t.RequestHeader, t.Header = i.Request.Header, i.Response.Header
	text, ok, err := textOf(c, &i.Response.Body)
	if err != nil {
		return err
	}
	if ok {
		t.Text = &text
	}
	var b strings.Builder
	fmt.Fprintf(&b, "> %s %s\n", t.Method, t.URL)
	header := func(mark string, h http.Header) {
		for _, name := range slices.Sorted(maps.Keys(h)) {
			for _, v := range h[name] {
				fmt.Fprintf(&b, "%s %s: %s\n", mark, name, v)
			}
		}
	}
	if t.Auth != "" {
		fmt.Fprintf(&b, "> Authorization: %s\n", t.Auth)
	}
	header(">", t.RequestHeader)
	body := func(mark string, body tapedBody) {
		if body.Mode != cassette.BodyEmpty {
			fmt.Fprintf(&b, "%s (%s, %s)\n", mark, body, body.Digest)
		}
	}
	body(">", t.Sent)
	fmt.Fprintf(&b, "< %s after %s\n", t.outcome(i), i.Time.FirstByte)
	header("<", t.Header)
	body("<", t.Received)
	if t.Error != nil {
		fmt.Fprintf(&b, "< %s\n", *t.Error)
	}
	if text != "" {
		b.WriteString("\n" + strings.TrimSuffix(text, "\n") + "\n")
	}
	return a.print(result{data: t, ids: []string{strconv.Itoa(t.Seq)}, text: b.String()})
}

// textOf returns a body that is text, and small enough to be looked at.
func textOf(c *cassette.Cassette, b *cassette.Body) (text string, ok bool, err error) {
	if b.Size > maxShownBody || b.Mode == cassette.BodyEmpty || b.Mode == cassette.BodyElided || b.Mode == cassette.BodyGenerated {
		return "", false, nil
	}
	r, err := c.OpenBody(b)
	if err != nil {
		return "", false, damaged(err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxShownBody+1))
	if err != nil {
		return "", false, damaged(err)
	}
	for _, r := range string(data) {
		if r < 0x20 && r != '\n' && r != '\t' && r != '\r' || r == 0x7f {
			return "", false, nil // it might steer a terminal
		}
	}
	return string(data), utf8.Valid(data), nil
}
