package ghcrtest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestListingShowsRows: after any changes, the list of versions shows what each of
// them is by its id, newest first, and with a lag what it was then.
func TestListingShowsRows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			lag := time.Duration(seed%2) * 10 * time.Second
			withQuirks(t, func(q *ghcrtest.Quirks) {
				q.RESTStaleness, q.RESTLimits = lag, false
				q.RESTNewIDOnRepush = seed%4 < 2
			}, func(w *wire) { w.compareListing(rand.New(rand.NewPCG(seed, 0)), lag) })
		})
	}
}

// snapshot is what the list of versions should show from a time on.
type snapshot struct {
	from          time.Time
	live, deleted []string
}

func (w *wire) compareListing(random *rand.Rand, lag time.Duration) {
	w.t.Helper()
	images := make([]*ghcrtest.Image, 8)
	for i := range images {
		images[i] = ghcrtest.NewImage("linux/amd64", []byte{byte(i)})
	}
	history := []snapshot{{}}
	known := map[string]bool{} // ids
	for range 80 {
		img := images[random.IntN(len(images))]
		id := ""
		if ids := slices.Sorted(maps.Keys(known)); len(ids) > 0 {
			id = ids[random.IntN(len(ids))]
		}
		switch n := random.IntN(10); {
		case n < 5 || id == "":
			tag := ""
			if random.IntN(3) > 0 {
				tag = fmt.Sprint("t", random.IntN(6))
			}
			if err := w.server.Add("acme/app", tag, img); err != nil {
				w.t.Fatal(err)
			}
		case n < 8:
			w.api("ghp_owner", "DELETE", versionsPath+"/"+id)
		default:
			w.api("ghp_owner", "POST", versionsPath+"/"+id+"/restore")
		}
		if next := fmt.Sprint(100001 + len(known)); w.api("ghp_owner", "GET", versionsPath+"/"+next).status == 200 {
			known[next] = true
		}
		now := snapshot{from: time.Now()}
		for _, id := range slices.Backward(slices.Sorted(maps.Keys(known))) { // the newest first
			if a := w.api("ghp_owner", "GET", versionsPath+"/"+id); a.status == 200 {
				now.live = append(now.live, a.body)
			} else {
				now.deleted = append(now.deleted, id)
			}
		}
		history = append(history, now)
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.IntN(8)) * time.Second)
		}
		w.compareWith(shown(history, time.Now().Add(-lag)))
	}
}

// shown is the last of the history up to a time.
func shown(history []snapshot, at time.Time) snapshot {
	i := len(history) - 1
	for history[i].from.After(at) {
		i--
	}
	return history[i]
}

func (w *wire) compareWith(want snapshot) {
	w.t.Helper()
	got := w.api("ghp_owner", "GET", versionsPath+"?per_page=100").body
	if !strings.HasPrefix(got, "[") {
		got = "[]" // there is no package yet
	}
	if got != "["+strings.Join(want.live, ",")+"]" {
		w.t.Fatalf("listed are\n%s, want\n%s", got, strings.Join(want.live, "\n"))
	}
	var ids []string
	for _, v := range w.versions("state=deleted") {
		ids = append(ids, fmt.Sprint(v.ID))
	}
	if !slices.Equal(ids, want.deleted) {
		w.t.Fatalf("deleted are %v, want %v", ids, want.deleted)
	}
}

// TestPages: following the links, each version comes once, and the page that is
// named the last is.
func TestPages(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		for i := range 25 {
			w.add(fmt.Sprint("v", i), fmt.Sprint("linux/a", i))
		}
		want := []string{}
		for _, v := range w.versions("") {
			want = append(want, v.tags()[0])
		}
		if want[0] != "v24" || len(want) != 25 {
			t.Fatalf("got %v", want)
		}
		var got []string
		pages, last := 0, ""
		for url := "https://api.github.com" + versionsPath + "?per_page=7&state=active"; url != ""; pages++ {
			a := w.as("ghp_owner").do("GET", url, "")
			var list []version
			w.decode(a, &list)
			for _, v := range list {
				got = append(got, v.tags()[0])
			}
			switch {
			case pages == 0 && link(a, "prev")+link(a, "first") != "":
				t.Errorf("before the first page: %s", a.header.Get("Link"))
			case pages == 0:
				last = link(a, "last")
			case link(a, "first") == "" || link(a, "prev") == "":
				t.Errorf("page %d: %s", pages+1, a.header.Get("Link"))
			}
			if next := link(a, "next"); next == "" {
				if url != last {
					t.Errorf("the last page is %s, not %s", url, last)
				}
				break
			} else if url = next; !strings.Contains(url, "state=active") {
				t.Errorf("the query is lost: %s", url)
			}
		}
		if pages != 3 || !slices.Equal(got, want) {
			t.Errorf("%d pages have %v, want %v", pages+1, got, want)
		}

		// A page beyond the end has no rows, and what makes no sense does not count.
		a := w.api("ghp_owner", "GET", versionsPath+"?per_page=7&page=9")
		if a.body != "[]" || !strings.Contains(link(a, "prev"), "page=4") || link(a, "next") != "" {
			t.Errorf("beyond the end: %s %s", a.body, a.header.Get("Link"))
		}
		w.want(w.api("ghp_owner", "GET", packagesPath+"&page=9223372036854775807"), 400)
		for query, rows := range map[string]int{"?page=9223372036854775807": 0, "": 25, "?per_page=1000": 25, "?per_page=0&page=x": 25, "?per_page=-1&page=-1": 25, "?per_page=2": 2} {
			var list []version
			if w.decode(w.api("ghp_owner", "GET", versionsPath+query), &list); len(list) != rows {
				t.Errorf("%q has %d rows, want %d", query, len(list), rows)
			}
		}
	})
}

// TestPagesAreMax: per_page goes up to 100, and is 30 if it is not given.
func TestPagesAreMax(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		many(w.t, w.server, 101)
		for query, rows := range map[string]int{"": 30, "?per_page=1000": 100} {
			var list []version
			if w.decode(w.api("ghp_owner", "GET", versionsPath+query), &list); len(list) != rows {
				t.Errorf("%q has %d rows, want %d", query, len(list), rows)
			}
		}
	})
}

// many puts so many versions into acme/app.
func many(t testing.TB, server *ghcrtest.Server, n int) {
	t.Helper()
	for i := range n {
		index := ghcrtest.Raw(indexType, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d"}}`, indexType, i))
		if err := server.Add("acme/app", fmt.Sprint("v", i), index); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkVersions reads all pages: the time for a page should not grow with how
// many there are.
func BenchmarkVersions(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			server, client := start(b, "")
			many(b, server.Server, n)
			for b.Loop() {
				for page := range n / 100 {
					exchange(b, client, "GET", fmt.Sprint(server.URL(), versionsPath, "?per_page=100&page=", page+1), nil, 0)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n/100), "µs/page")
		})
	}
}
