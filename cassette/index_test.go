package cassette

import (
	"fmt"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// recorded makes n interactions of a shape.
func recorded(n int, shape func(i int, e *Interaction)) []*Interaction {
	list := make([]*Interaction, n)
	for i := range list {
		list[i] = &Interaction{
			Version: formatVersion, Seq: i + 1, Time: Timing{Start: time.Duration(i)},
			Request:  Request{Method: "GET", Scheme: "https", Host: "ghcr.io", Path: "/x", Body: Body{Mode: BodyEmpty}},
			Response: Response{Status: 200, Body: Body{Mode: BodyEmpty}},
		}
		shape(i, list[i])
	}
	return list
}

// TestReplayIsLinear: sixteen times as many interactions take about sixteen times
// as long, also where all have one key. A busy machine makes anything slow for a while,
// so one quiet moment is waited for; what is quadratic has none.
func TestReplayIsLinear(t *testing.T) {
	for name, test := range map[string]struct {
		order Order
		shape func(i int, e *Interaction)
	}{
		"keys":   {OrderPerKey, func(i int, e *Interaction) { e.Request.Path = fmt.Sprintf("/x/%d", i) }},
		"equal":  {OrderPerKey, func(int, *Interaction) {}},
		"epochs": {OrderPerKey, func(i int, e *Interaction) { e.Epoch = i % 7 }},
		"none":   {OrderNone, func(i int, e *Interaction) { e.Epoch = i % 7 }},
		"strict": {OrderStrict, func(int, *Interaction) {}},
		"bodies": {OrderPerKey, func(i int, e *Interaction) {
			e.Request.Body = Body{Mode: BodyElided, Digest: digest.FromString(fmt.Sprint(i)), Size: 1}
		}},
		"cut off": {OrderPerKey, func(i int, e *Interaction) {
			e.Request.Body = Body{Mode: BodyElided, Digest: digest.FromString("x"), Size: 1, Partial: true}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			measure := func(n int) time.Duration {
				best := time.Hour
				list := recorded(n, test.shape)
				for range 2 {
					x := newIndex(list, test.order, RepeatNone)
					began := time.Now()
					for _, e := range list {
						l := &live{request: e.Request, key: e.Request.key(), epoch: e.Epoch, prefixes: map[int64]oci.Digest{1: e.Request.Body.Digest}}
						at := x.plain.edges[l.key]
						at.reading()
						if x.take(at, l) == nil {
							t.Fatal("not found")
						}
					}
					best = min(best, time.Since(began))
				}
				return best
			}
			for try := 1; ; try++ {
				small, large := measure(2000), measure(32000)
				ratio := float64(large) / float64(small)
				if ratio < 100 {
					return
				}
				if try == 20 {
					t.Fatalf("2000 took %s and 32000 took %s, %.0f times as long", small, large, ratio)
				}
			}
		})
	}
}
