package ghcr_test

import (
	"testing"
	"testing/synctest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// TestRequestCounts holds the numbers of docs/design.md. They are what sets the
// time that a transfer takes on a long way.
func TestRequestCounts(t *testing.T) {
	const n = 10 // layers
	for _, test := range []struct {
		name string
		prep func(s *sandbox, layout string)
		do   func(s *sandbox, layout string)
		want int
	}{
		{
			name: "push, all new",
			do:   func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			want: 2*n + 3,
		},
		{
			name: "push, unchanged",
			prep: func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			do:   func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			want: 1,
		},
		{
			name: "push, two blobs missing",
			prep: func(s *sandbox, l string) {
				// The same layers but the last, and so another config.
				var layers [][]byte
				for i := range n - 1 {
					layers = append(layers, ghcrtest.RandomLayer(1000+uint64(i), 4096+i))
				}
				s.mustCopy(s.layout(ghcrtest.NewImage("linux/amd64", layers...)), "acme/app:v0", transfer.Options{})
			},
			do:   func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			want: 2*2 + 1,
		},
		{
			name: "push, all blobs in another repository",
			prep: func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			do:   func(s *sandbox, l string) { s.mustCopy(l, "acme/other:v1", transfer.Options{}) },
			want: n + 2,
		},
		{
			name: "pull", // the storage host is a hop for each blob
			prep: func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			do:   func(s *sandbox, _ string) { s.mustCopy("acme/app:v1", "oci:"+s.t.TempDir(), transfer.Options{}) },
			want: n + 2 + n + 1,
		},
		{
			name: "copy within a registry",
			prep: func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			do:   func(s *sandbox, _ string) { s.mustCopy("acme/app:v1", "acme/prod:v1", transfer.Options{}) },
			want: n + 3,
		},
		{
			name: "retag",
			prep: func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			do:   func(s *sandbox, _ string) { s.mustCopy("acme/app:v1", "acme/app:v2", transfer.Options{}) },
			want: 2,
		},
		{
			name: "digest",
			prep: func(s *sandbox, l string) { s.mustCopy(l, "acme/app:v1", transfer.Options{}) },
			do: func(s *sandbox, _ string) {
				ref, err := s.client.ParseRef("acme/app:v1")
				if err != nil {
					s.t.Fatal(err)
				}
				repo, err := s.client.Repository(ref)
				if err != nil {
					s.t.Fatal(err)
				}
				if _, err := repo.Resolve(s.t.Context(), "v1"); err != nil {
					s.t.Fatal(err)
				}
			},
			want: 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				layout := s.layout(image(1, n))
				if test.prep != nil {
					test.prep(s, layout)
				}
				s.server.ResetRequests()
				test.do(s, layout)
				if got := s.requests(); got != test.want {
					for _, r := range s.log() {
						t.Logf("%s %s?%s -> %d", r.Method, r.Path, r.Query, r.Status)
					}
					t.Errorf("took %d requests, want %d", got, test.want)
				}
			})
		})
	}
}

// TestRequestCountIndex: an index costs what its images cost, and one request for
// itself.
func TestRequestCountIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		index := ghcrtest.NewIndex(image(1, 5), image(2, 5))
		s.mustCopy(s.layout(index), "acme/app:v1", transfer.Options{})
		// The config is the same file only if the layers are, and they are not.
		if got, want := s.requests(), 2*(2*5+3)+1; got != want {
			t.Errorf("took %d requests, want %d", got, want)
		}
	})
}
