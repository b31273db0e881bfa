package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// TagOptions choose tags. The zero value is all of them.
type TagOptions struct {
	Match string         // a glob as in [path.Match], where * also stands for nothing
	Regex *regexp.Regexp // matches somewhere in the tag unless it is anchored
}

// tagPage is how many tags to ask for at once: the most that GHCR gives.
const tagPage = 1000

// A page of 1000 tags of 128 characters is far below this.
const maxTagPage = 4 << 20

// emptyPages is how many pages in a row may bring nothing new, as those of a registry
// that leaves out what the login may not see.
const emptyPages = 100

// errCircle says that a list has no end, so that what was read of it may not be all.
var errCircle = errors.New("the pages of the list lead in a circle, so it may not be complete")

// Tags yields the tags in the order in which the registry has them, which on GHCR
// is the order in which they were made (docs/quirks.md#tag-order). Pages are
// fetched as they are needed; each tag comes once, even if the list changes
// meanwhile. An error comes last and ends the list.
//
// Errors: [oci.ErrNotFound] for a repository that does not exist or may not be
// seen, [oci.ErrInvalid] for a malformed glob.
func (r *Repository) Tags(ctx context.Context, opts TagOptions) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if _, err := path.Match(opts.Match, ""); err != nil {
			yield("", oci.Invalid("malformed pattern %q", opts.Match))
			return
		}
		next := r.url("tags", "list")
		next.RawQuery = "n=" + strconv.Itoa(tagPage)
		seen := map[string]bool{}
		asked := map[string]bool{}
		stale, guessed := 0, false
		for next != nil {
			if asked[next.String()] || stale == emptyPages {
				yield("", fmt.Errorf("list tags %s: %w", r, errCircle))
				return
			}
			asked[next.String()] = true
			tags, following, err := r.tagPage(ctx, next)
			if err != nil {
				yield("", err)
				return
			}
			stale++
			for _, tag := range tags {
				if seen[tag] {
					continue
				}
				seen[tag], stale = true, 0
				if opts.Wants(tag) && !yield(tag, nil) {
					return
				}
			}
			if guessed && stale > 0 {
				return // no more was announced, and there is no more
			}
			next = following
			if guessed = next == nil && len(tags) >= tagPage; guessed {
				// A full page without a Link has been seen on GHCR
				// (docs/quirks.md#tag-link-missing-at-max).
				next = r.url("tags", "list")
				next.RawQuery = url.Values{"n": {strconv.Itoa(tagPage)}, "last": {tags[len(tags)-1]}}.Encode()
			}
		}
	}
}

// Wants tells whether a tag, or any other name, is one of those that are chosen.
func (o TagOptions) Wants(tag string) bool {
	if o.Match != "" {
		if ok, _ := path.Match(o.Match, tag); !ok {
			return false
		}
	}
	return o.Regex == nil || o.Regex.MatchString(tag)
}

// TagNames returns all tags at once.
//
// Errors: as for [Repository.Tags].
func (r *Repository) TagNames(ctx context.Context) ([]string, error) {
	var names []string
	for tag, err := range r.Tags(ctx, TagOptions{}) {
		if err != nil {
			return nil, err
		}
		names = append(names, tag)
	}
	return names, nil
}

func (r *Repository) tagPage(ctx context.Context, u *url.URL) (tags []string, next *url.URL, err error) {
	q := request{
		method: http.MethodGet, url: u, list: true,
		call: transport.Call{Op: "list tags", Target: r.String(), Scopes: r.pull()},
	}
	resp, body, err := r.read(ctx, maxTagPage, q)
	if err != nil {
		return nil, nil, err
	}
	var page struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, nil, fmt.Errorf("list tags %s: registry's answer is not a tag list: %w", r, err)
	}
	next, err = nextPage(u, resp)
	if err != nil {
		return nil, nil, fmt.Errorf("list tags %s: %w", r, err)
	}
	return page.Tags, next, nil
}

// nextPage reads the address of the next page. Its query is the registry's
// business: GHCR's says n=0 (docs/quirks.md#tag-link-n0).
func nextPage(from *url.URL, resp *http.Response) (*url.URL, error) {
	for _, header := range resp.Header.Values("Link") {
		target, ok := parseNextLink(header)
		if !ok {
			continue
		}
		next, err := from.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("malformed Link %q", header)
		}
		if !strings.EqualFold(next.Hostname(), from.Hostname()) {
			return nil, fmt.Errorf("the next page is on another host, %s; refused", next.Host)
		}
		next.Scheme, next.Host = from.Scheme, from.Host
		return next, nil
	}
	return nil, nil
}

// parseNextLink reads the target of the rel="next" part of a Link header.
func parseNextLink(header string) (string, bool) {
	for header != "" {
		open := strings.IndexByte(header, '<')
		if open < 0 {
			return "", false
		}
		target, rest, ok := strings.Cut(header[open+1:], ">")
		if !ok {
			return "", false
		}
		params := rest
		if next := strings.IndexByte(rest, '<'); next >= 0 {
			params, header = rest[:next], rest[next:]
		} else {
			header = ""
		}
		for _, p := range strings.FieldsFunc(params, func(c rune) bool { return c == ';' || c == ',' }) {
			name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			if strings.EqualFold(strings.TrimSpace(name), "rel") && strings.EqualFold(strings.Trim(strings.TrimSpace(value), `"`), "next") {
				return target, true
			}
		}
	}
	return "", false
}
