package ghcr_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// The tests here are of what the sweep found when it was first run.

// found runs an operation with faults, with a connection for each request.
func found(t *testing.T, op operation, faults []ghcrtest.Fault, look func(s *scene, value any, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, op, false)
		s.server.Inject(faults...)
		value, err := op.do(s)
		if len(s.server.Faults()) == 0 {
			t.Fatal("nothing went wrong")
		}
		look(s, value, err)
	})
}

func (s *scene) sent(route, method string) (n int) {
	for _, r := range s.log() {
		if r.Route == route && r.Method == method {
			n++
		}
	}
	return n
}

// TestAnswerOfTheAPIThatEndsEarly is asked for again, and the half of it is not kept as
// what a 304 means later.
func TestAnswerOfTheAPIThatEndsEarly(t *testing.T) {
	op := operation{cached: true, prep: withFamily, do: listInventory}
	for _, times := range []int{1, -1} {
		fault := ghcrtest.Fault{Route: ghcrtest.RouteVersions, ResponseBytes: 100, Short: true, Times: times}
		if times < 0 {
			fault.Times = 4 // as often as it is asked for
		}
		found(t, op, []ghcrtest.Fault{fault}, func(s *scene, _ any, err error) {
			var e *transport.Error
			if times < 0 && (!errors.As(err, &e) || !e.BrokenOff() || !errors.Is(err, io.ErrUnexpectedEOF)) || times > 0 && err != nil {
				t.Errorf("%d times: %v", times, err)
			}
			if _, err := op.do(s); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestListOfTagsThatEndsEarly is asked for again.
func TestListOfTagsThatEndsEarly(t *testing.T) {
	op := operation{prep: withTwo, do: inRepo(func(s *scene, repo *registry.Repository) ([]string, error) { return repo.TagNames(s.ctx) })}
	found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteTags, ResponseBytes: 10, Short: true}}, func(s *scene, value any, err error) {
		if tags, _ := value.([]string); err != nil || len(tags) != 2 {
			t.Errorf("%v, %v", value, err)
		}
	})
}

// TestReferrersThatEndEarly are not taken for a registry that has no such API, and so for none.
func TestReferrersThatEndEarly(t *testing.T) {
	op := operation{quirks: spec, prep: withFamily, do: inRepo(listReferrers)}
	found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteReferrers, ResponseBytes: 10, Short: true}}, func(s *scene, value any, err error) {
		if value != 1 || err != nil {
			t.Errorf("%v referrers, %v", value, err)
		}
	})
}

// TestManifestThatEndsEarly has the wrong digest, and is not bad input of the caller's.
func TestManifestThatEndsEarly(t *testing.T) {
	op := operation{prep: withSmall, do: func(s *scene) (any, error) { return s.client.Size(s.ctx, s.ref("acme/app:v1")) }}
	found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, ResponseBytes: 10, Short: true}}, func(s *scene, _ any, err error) {
		if !errors.Is(err, ghcr.ErrIntegrity) || errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("got %v, want ErrIntegrity", err)
		}
	})
}

// TestTokenThatStalls is asked for again, and a refusal that is cut off is too, since what
// it means is in its body.
func TestTokenThatStalls(t *testing.T) {
	op := operation{quirks: noDirect, prep: withSmall, do: func(s *scene) (any, error) { return s.client.Exists(s.ctx, s.ref("acme/app:v1")) }}
	pull := operation{quirks: noDirect, prep: withSmall, do: copying("acme/app:v1", "oci:DIR/layout", transfer.Options{})}
	for _, test := range []struct {
		op    operation
		fault ghcrtest.Fault
	}{
		{op, ghcrtest.Fault{Route: ghcrtest.RouteToken, ResponseBytes: 5, Stall: time.Hour}},
		{op, ghcrtest.Fault{Route: ghcrtest.RouteToken, ResponseBytes: 5, Break: true}},
		{pull, ghcrtest.Fault{Route: ghcrtest.RouteManifest, ResponseBytes: 5, Break: true}},
	} {
		found(t, test.op, []ghcrtest.Fault{test.fault}, func(s *scene, _ any, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTokenServiceThatIsDown is asked four times, whoever waits for its token.
func TestTokenServiceThatIsDown(t *testing.T) {
	for name, op := range map[string]operation{
		"push": {quirks: noDirect, prep: laid(small), do: copying("PATH", "acme/app:v1", transfer.Options{})},
		"deletion": {quirks: spec, prep: withSmall, do: inRepo(func(s *scene, repo *registry.Repository) (string, error) {
			return nothing(repo.DeleteManifest(s.ctx, "v1"))
		})},
	} {
		found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteToken, Status: 503, Times: -1}}, func(s *scene, _ any, err error) {
			if n := s.sent(ghcrtest.RouteToken, "GET"); err == nil || n != 4 {
				t.Errorf("%s: asked %d times: %v", name, n, err)
			}
		})
	}
}

// TestDeletionWhoseAnswerIsLost is not tried again to be told that there is nothing.
func TestDeletionWhoseAnswerIsLost(t *testing.T) {
	op := operation{quirks: spec, prep: withTwo, do: inRepo(func(s *scene, repo *registry.Repository) (string, error) {
		return nothing(errors.Join(repo.DeleteManifest(s.ctx, "v2"), repo.DeleteBlob(s.ctx, other.Manifest.Layers[0].Digest)))
	})}
	lost := ghcrtest.Fault{Method: "DELETE", Served: true, Break: true}
	first, second := lost, lost
	first.Route, second.Route = ghcrtest.RouteManifest, ghcrtest.RouteBlob
	found(t, op, []ghcrtest.Fault{first, second}, func(s *scene, _ any, err error) {
		if err != nil {
			t.Error(err)
		}
		if err := s.server.Holds("acme/app", "v2", other); err == nil {
			t.Error("it is still there")
		}
	})
}

// TestStreamWhoseCommitFails: what cannot be read a second time is all there, and is committed
// again.
func TestStreamWhoseCommitFails(t *testing.T) {
	op := operation{chunk: 2000, do: inRepo(func(s *scene, repo *registry.Repository) (oci.Digest, error) {
		d, err := repo.PutStream(s.ctx, "", bytes.NewReader(ghcrtest.RandomLayer(1, 5000)))
		if err == nil {
			_, err = repo.ResolveBlob(s.ctx, d.Digest)
		}
		return d.Digest, err
	})}
	for _, fault := range []ghcrtest.Fault{{Status: 503}, {Break: true}, {Served: true, Break: true}} {
		fault.Route = ghcrtest.RouteUploadCommit
		found(t, op, []ghcrtest.Fault{fault}, func(s *scene, _ any, err error) {
			if err != nil {
				t.Errorf("%+v: %v", fault, err)
			}
		})
	}
}

// TestRetriesDoNotMultiply: what one layer has tried often enough is not tried as often
// by the next.
func TestRetriesDoNotMultiply(t *testing.T) {
	chunks := operation{chunk: 2000, prep: laid(small), do: copying("PATH", "acme/app:v1", transfer.Options{Jobs: 1})}
	between := operation{quirks: func(q *ghcrtest.Quirks) { q.MountSelf = false }, prep: withSmall,
		do: copying("acme/app:v1", "mirror.example.com/acme/mirror:v1", transfer.Options{Jobs: 1})}
	for name, test := range map[string]struct {
		op            operation
		route, method string
		most          int
	}{
		"the start of an upload": {chunks, ghcrtest.RouteUploadStart, "POST", 4},
		"a chunk":                {chunks, ghcrtest.RouteUploadChunk, "PATCH", 5},
		"the source of a copy":   {between, ghcrtest.RouteBlob, "GET", 4},
	} {
		found(t, test.op, []ghcrtest.Fault{{Route: test.route, Method: test.method, Status: 503, Times: -1}}, func(s *scene, _ any, err error) {
			// Several blobs may be begun before the first is given up.
			if n, begun := s.sent(test.route, test.method), 3; err == nil || n > test.most*begun {
				t.Errorf("%s: %d times: %v", name, n, err)
			}
		})
	}
}

// TestRestoreLeavesOutWhatLacksItsParts: the tag does not come back to an index before
// all that it lists is there.
func TestRestoreLeavesOutWhatLacksItsParts(t *testing.T) {
	op := operation{prep: func(s *scene) { withFamily(s); s.deletedV1() }, do: func(s *scene) (any, error) {
		return s.client.Restore(s.ctx, s.ref("acme/app"), ghcr.RestoreOptions{Undo: s.undo(s.path)})
	}}
	found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteVersionRestore, Status: 503, Times: 4}}, func(s *scene, _ any, err error) {
		var partial *ghcr.PartialError
		if !errors.As(err, &partial) {
			t.Errorf("got %v, want a PartialError", err)
		}
		if s.resolves("acme/app", "v1") != "" {
			s.holds("acme/app", "v1", family)
		}
		if _, err := op.do(s); err != nil {
			t.Errorf("again: %v", err)
		}
		s.holds("acme/app", "v1", family)
	})
}

// TestLastLookOutlivesAStall: the look at the tags after a deletion is bounded only when
// the run was broken off.
func TestLastLookOutlivesAStall(t *testing.T) {
	op := operation{prep: withFamily, do: deleteV1("acme/app:v1", 6)}
	// The third list of tags is that of the last look.
	found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteTags, After: 2, ResponseBytes: 3, Stall: time.Hour, Times: 2}}, func(s *scene, _ any, err error) {
		if err != nil {
			t.Error(err)
		}
	})
}

// TestUntaggingThatIsBrokenOff says so, and that it is to be done again.
func TestUntaggingThatIsBrokenOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	op := operation{prep: func(s *scene) { withTwo(s); s.add("acme/app", "old", small) }, do: func(s *scene) (any, error) {
		_, err := s.client.Untag(ctx, ghcr.UntagOptions{}, s.ref("acme/app:old"))
		return nil, err
	}}
	// The second list is that in which the empty manifest is looked for.
	found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteVersions, After: 1, Do: func(*ghcrtest.Server) { cancel() }, Delay: time.Minute}}, func(s *scene, _ any, err error) {
		var pending *ghcr.PendingError
		if !errors.As(err, &pending) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestUserWhoIsRefusedOnce is not nobody from then on.
func TestUserWhoIsRefusedOnce(t *testing.T) {
	op := operation{do: atAPI(func(s *scene, api *packages.Client) (packages.Owner, error) { return api.WhoAmI(s.ctx) })}
	found(t, op, []ghcrtest.Fault{{Route: ghcrtest.RouteOwner, Status: 403, Body: `{"message":"Forbidden"}`}}, func(s *scene, _ any, err error) {
		if !errors.Is(err, ghcr.ErrDenied) {
			t.Errorf("got %v, want ErrDenied", err)
		}
		if me, err := op.do(s); err != nil || me.(packages.Owner).Login == "" {
			t.Errorf("then %+v, %v", me, err)
		}
	})
}
