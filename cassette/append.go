package cassette

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

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
	began := time.Now()
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
	if it == nil {
		it = c.play.reread(l)
	}
	if it != nil {
		defer closeBody(req)
		return c.play.answer(req, l, it, began)
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
