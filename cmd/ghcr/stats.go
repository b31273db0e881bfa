package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/transport"
)

// requestCount counts requests by kind.
type requestCount struct {
	mu    sync.Mutex
	kinds map[string]int
}

func (c *requestCount) add(e transport.Exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = map[string]int{}
	}
	c.kinds[kindOf(e)]++
}

// kindOf tells what a request was for, by its path.
func kindOf(e transport.Exchange) string {
	list := strings.HasSuffix(e.Path, "/versions")
	switch {
	case strings.Contains(e.Path, "/packages/container/"):
		switch {
		case e.Method == http.MethodDelete:
			return "api: deletions"
		case e.Method != http.MethodGet:
			return "api: other changes"
		case e.Status == http.StatusNotModified:
			return "api: not modified, free"
		case list:
			return "api: pages of versions"
		}
		return "api: other"
	case strings.HasPrefix(e.Path, "/v2/"):
		switch {
		case strings.Contains(e.Path, "/manifests/"):
			return "registry: manifests, " + e.Method
		case strings.Contains(e.Path, "/blobs/"):
			return "registry: blobs, " + e.Method
		case strings.HasSuffix(e.Path, "/tags/list"):
			return "registry: pages of tags"
		}
		return "registry: other"
	case strings.HasSuffix(e.Path, "/token"):
		return "registry: tokens"
	}
	return "other"
}

func (c *requestCount) byKind() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	kinds := maps.Clone(c.kinds)
	if kinds == nil {
		kinds = map[string]int{}
	}
	return kinds
}

// print says how many there were, for a person.
func (c *requestCount) print(w io.Writer) {
	kinds := c.byKind()
	rows := [][]string{}
	all := 0
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		rows = append(rows, []string{"  " + kind, fmt.Sprint(kinds[kind])})
		all += kinds[kind]
	}
	fmt.Fprintf(w, "ghcr: %s:\n", plural(all, "request"))
	printColumns(w, rows)
}
