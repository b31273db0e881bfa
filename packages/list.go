package packages

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// pageSize is how many rows to ask for at once: the most that GitHub gives.
const pageSize = 100

// parallelPages is how many pages are fetched at once where it is known how many
// there are.
const parallelPages = 10

// page is one page of a list.
type page[T any] struct {
	rows []T
	next string // address of the next page; empty on the last
	last string // address of the last page, where it is known
}

func fetchPage[T any](ctx context.Context, c *Client, q request) (page[T], error) {
	var p page[T]
	a, err := c.get(ctx, q)
	if err != nil {
		return p, err
	}
	if err := decode(q, a.body, &p.rows); err != nil {
		return p, err
	}
	links := parseLinks(a.link)
	for rel, at := range map[string]*string{"next": &p.next, "last": &p.last} {
		if links[rel] == "" {
			continue
		}
		// The addresses name the owner by number (docs/quirks.md#rest-numeric-links).
		if *at, err = c.sameHost(q.url, links[rel]); err != nil {
			return p, fmt.Errorf("%s %s: %w", q.op, q.target, err)
		}
	}
	return p, nil
}

// parseLinks reads a Link header into addresses by their relation.
func parseLinks(header string) map[string]string {
	links := map[string]string{}
	for header != "" {
		_, rest, ok := strings.Cut(header, "<")
		if !ok {
			break
		}
		target, rest, ok := strings.Cut(rest, ">")
		if !ok {
			break
		}
		params := rest
		if i := strings.IndexByte(rest, '<'); i >= 0 {
			params = rest[:i]
		}
		header = rest[len(params):]
		for param := range strings.SplitSeq(strings.TrimRight(params, ", "), ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			if strings.EqualFold(strings.TrimSpace(name), "rel") {
				for rel := range strings.FieldsSeq(strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`))) {
					links[rel] = target
				}
			}
		}
	}
	return links
}

// fetchAll reads a list whole: the first page, the others side by side where it is
// known how many there are, and what was added behind meanwhile.
//
// Errors: [TooMany] where there are more pages than most.
func fetchAll[T any](ctx context.Context, c *Client, q request, most int) ([]page[T], error) {
	first, err := fetchPage[T](ctx, c, q)
	if err != nil {
		return nil, err
	}
	pages := []page[T]{first}
	last, number := pageNumber(first.last)
	if number > most {
		return nil, TooMany
	}
	if number > 1 {
		pages = slices.Grow(pages, number)[:number]
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(parallelPages)
		for n := 2; n <= number; n++ {
			group.Go(func() error {
				q := q
				q.url = withPage(last, n)
				p, err := fetchPage[T](ctx, c, q)
				pages[n-1] = p
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
	}
	asked := map[string]bool{}
	for next := pages[len(pages)-1].next; next != "" && !asked[next]; next = pages[len(pages)-1].next {
		if len(pages) >= most {
			return nil, TooMany
		}
		asked[next] = true
		q.url = next
		p, err := fetchPage[T](ctx, c, q)
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// maxPages keeps an answer from making the client ask for ever.
const maxPages = 10000

// pageNumber reads which page an address is of; zero if it does not say.
func pageNumber(address string) (*url.URL, int) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, 0
	}
	n, err := strconv.Atoi(u.Query().Get("page"))
	if err != nil {
		return nil, 0
	}
	return u, n
}

func withPage(u *url.URL, n int) string {
	at := *u
	query := at.Query()
	query.Set("page", strconv.Itoa(n))
	at.RawQuery = query.Encode()
	return at.String()
}

// join puts pages together and tells whether they fit: no row twice, no page short but
// the last, and none empty that another leads to. If not, the list moved while it was
// read.
func join[T any](pages []page[T], id func(T) int64) (rows []T, fit bool) {
	fit = true
	seen := map[int64]bool{}
	for i, p := range pages {
		if len(p.rows) < pageSize && i < len(pages)-1 || len(p.rows) == 0 && i > 0 {
			fit = false
		}
		for _, row := range p.rows {
			if seen[id(row)] {
				fit = false
				continue
			}
			seen[id(row)] = true
			rows = append(rows, row)
		}
	}
	return rows, fit
}

func sameRows[T any](a, b []T, id func(T) int64) bool {
	return slices.EqualFunc(a, b, func(x, y T) bool { return id(x) == id(y) })
}
