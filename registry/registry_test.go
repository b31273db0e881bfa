package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// sandbox is an emulator with an image in acme/app, and a client of it.
type sandbox struct {
	*testing.T
	server *ghcrtest.Server
	repo   *registry.Repository
}

// run makes a sandbox in virtual time. change sets quirks; opts are the host's.
func run(t *testing.T, change func(*ghcrtest.Quirks), opts registry.Options, test func(s *sandbox)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := ghcrtest.GHCR()
		if change != nil {
			change(&q)
		}
		server, err := ghcrtest.New(ghcrtest.Options{Quirks: &q})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		s := &sandbox{T: t, server: server}
		s.repo = s.repository("acme/app", opts)
		test(s)
	})
}

func (s *sandbox) repository(name string, opts registry.Options) *registry.Repository {
	s.Helper()
	client, err := transport.New(transport.Options{
		Base:        s.server.Transport(),
		Credentials: transport.Static(map[string]transport.Credential{"ghcr.io": {Username: "u", Password: transport.NewSecret(ghcrtest.Token), Source: "test"}}),
		Rules: func(string) transport.HostRules {
			return transport.HostRules{Realm: "https://ghcr.io/token", Service: "ghcr.io", DirectBearer: true}
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	host, err := registry.New(client, "ghcr.io", opts)
	if err != nil {
		s.Fatal(err)
	}
	repo, err := host.Repository(name)
	if err != nil {
		s.Fatal(err)
	}
	return repo
}

// log is what the server was asked, once it is done answering.
func (s *sandbox) log() []ghcrtest.Request {
	synctest.Wait()
	return s.server.Requests()
}

func (s *sandbox) add(tag string, img *ghcrtest.Image) {
	s.Helper()
	if err := s.server.Add("acme/app", tag, img); err != nil {
		s.Fatal(err)
	}
}

func (s *sandbox) image() *ghcrtest.Image {
	s.Helper()
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 50_000))
	s.add("v1", img)
	return img
}

// content is an opener of data, and the descriptor of it.
func content(data []byte) (oci.Descriptor, oci.Opener) {
	return oci.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))},
		func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data[offset:])), nil
		}
}

func (s *sandbox) put(data []byte) oci.Stored {
	s.Helper()
	d, open := content(data)
	stored, err := s.repo.PutBlob(s.Context(), d, nil, open)
	if err != nil {
		s.Fatal(err)
	}
	if got := s.get(d); !bytes.Equal(got, data) {
		s.Errorf("got %d bytes back, want %d", len(got), len(data))
	}
	return stored
}

func (s *sandbox) get(d oci.Descriptor) []byte {
	s.Helper()
	r, err := s.repo.GetBlob(s.Context(), d)
	if err != nil {
		s.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		s.Fatal(err)
	}
	return data
}

func TestManifestGetHeadPut(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		img := s.image()
		m, err := s.repo.Manifest(s.Context(), "v1")
		if err != nil || !m.Equal(img.Manifest) {
			s.Fatalf("got %v, %v", m, err)
		}
		d, err := s.repo.Resolve(s.Context(), "v1")
		if err != nil || d.Digest != img.Digest() || d.Size != int64(len(m.Bytes())) || d.MediaType != m.MediaType {
			s.Errorf("resolve: got %v, %v", d, err)
		}
		odd := img.WithBytes(func(raw []byte) []byte { return append([]byte(" \n"), append(raw, '\n', ' ')...) })
		if err := s.repo.PutManifest(s.Context(), "odd", odd.Manifest); err != nil {
			s.Fatal(err)
		}
		if got, err := s.repo.Manifest(s.Context(), odd.Digest().String()); err != nil || !bytes.Equal(got.Bytes(), odd.Manifest.Bytes()) {
			s.Errorf("the odd manifest came back as %q, %v", got.Bytes(), err)
		}
		if _, err := s.repo.Manifest(s.Context(), "none"); !errors.Is(err, oci.ErrNotFound) {
			s.Errorf("got %v, want ErrNotFound", err)
		}
		if err := s.repo.PutManifest(s.Context(), "sha256:"+strings.Repeat("0", 64), m); !errors.Is(err, oci.ErrInvalid) {
			s.Errorf("a wrong digest: got %v, want ErrInvalid", err)
		}
		if err := s.repo.DeleteManifest(s.Context(), "v1"); !errors.Is(err, transport.ErrUnsupported) {
			s.Errorf("delete: got %v, want ErrUnsupported", err)
		}
	})
}

func TestIndexToPlatform(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		arm := ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(2, 10))
		s.add("multi", ghcrtest.Attested(ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 10)), arm))
		p, err := oci.ParsePlatform("linux/arm64/v8")
		if err != nil {
			s.Fatal(err)
		}
		m, err := s.repo.PlatformManifest(s.Context(), "multi", p)
		if err != nil || m.Digest() != arm.Digest() {
			s.Errorf("got %v, %v", m, err)
		}
		_, err = s.repo.PlatformManifest(s.Context(), "multi", oci.Platform{OS: "linux", Architecture: "s390x"})
		if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
			s.Errorf("got %v, want an error that names the platforms", err)
		}
	})
}

// TestSingleImageHasAPlatformToo: an image for another platform is not taken for
// the one that was asked for.
func TestSingleImageHasAPlatformToo(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		img := s.image()
		if m, err := s.repo.PlatformManifest(s.Context(), "v1", oci.Platform{OS: "linux", Architecture: "amd64"}); err != nil || m.Digest() != img.Digest() {
			s.Errorf("got %v, %v", m, err)
		}
		_, err := s.repo.PlatformManifest(s.Context(), "v1", oci.Platform{OS: "linux", Architecture: "arm64"})
		if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "there are linux/amd64") {
			s.Errorf("got %v, want an error that names the platform", err)
		}
	})
}

func TestMissingBlobsAreNamed(t *testing.T) {
	for _, details := range []string{"all", "first"} {
		run(t, func(q *ghcrtest.Quirks) { q.MissingBlobDetails = details }, registry.Options{}, func(s *sandbox) {
			img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(9, 10))
			err := s.repo.PutManifest(s.Context(), "v1", img.Manifest)
			var missing *oci.MissingBlobsError
			if !errors.As(err, &missing) || len(missing.Digests) == 0 || !slices.ContainsFunc(img.Manifest.Blobs(), func(d oci.Descriptor) bool { return d.Digest == missing.Digests[0] }) {
				s.Errorf("%s: got %v", details, err)
			}
		})
	}
}

func TestBlobs(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		data := ghcrtest.RandomLayer(3, 100_000)
		if got := s.put(data); got != oci.StoredUpload {
			s.Errorf("got %s", got)
		}
		if got := s.put(data); got != oci.StoredExisting {
			s.Errorf("again: got %s", got)
		}
		d, _ := content(data)
		got, err := s.repo.ResolveBlob(s.Context(), d.Digest)
		if err != nil || got.Size != d.Size {
			s.Errorf("got %v, %v", got, err)
		}
		r, err := s.repo.Blob(s.Context(), d, 1000, 500)
		if err != nil {
			s.Fatal(err)
		}
		part, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(part, data[1000:1500]) {
			s.Errorf("a range of %d bytes, %v", len(part), err)
		}
		if _, err := s.repo.ResolveBlob(s.Context(), digest.FromString("none")); !errors.Is(err, oci.ErrNotFound) {
			s.Errorf("got %v, want ErrNotFound", err)
		}
		if err := s.repo.DeleteBlob(s.Context(), d.Digest); !errors.Is(err, transport.ErrUnsupported) {
			s.Errorf("delete: got %v, want ErrUnsupported", err)
		}
		// Without a size the registry is asked.
		if got := s.get(oci.Descriptor{Digest: d.Digest}); !bytes.Equal(got, data) {
			s.Error("the blob of unknown size came back wrong")
		}
		r.Close()
	})
}

func TestLayerOverTheLimit(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		d, open := content([]byte("x"))
		d.Size = oci.MaxLayerSize + 1
		if _, err := s.repo.PutBlob(s.Context(), d, nil, open); !errors.Is(err, oci.ErrInvalid) {
			s.Errorf("got %v, want ErrInvalid", err)
		}
		if n := len(s.log()); n != 0 {
			s.Errorf("%d requests were sent", n)
		}
	})
}

// TestMountSelf: whether or not a registry answers a mount into itself, what is
// there is not sent again, if it is worth a question.
func TestMountSelf(t *testing.T) {
	for _, answers := range []bool{true, false} {
		run(t, func(q *ghcrtest.Quirks) { q.MountSelf = answers }, registry.Options{}, func(s *sandbox) {
			data := ghcrtest.RandomLayer(4, 5<<20)
			s.put(data)
			s.server.ResetRequests()
			d, open := content(data)
			stored, err := s.repo.PutBlob(s.Context(), d, nil, open)
			if err != nil || stored != oci.StoredExisting {
				s.Errorf("MountSelf %v: got %s, %v", answers, stored, err)
			}
			for _, r := range s.log() {
				if r.Received > 0 {
					s.Errorf("MountSelf %v: %d bytes were sent", answers, r.Received)
				}
			}
		})
	}
}

func TestMountInvisible(t *testing.T) {
	for _, status := range []int{202, 401, 403, 404} {
		run(t, func(q *ghcrtest.Quirks) { q.MountInvisible = status }, registry.Options{}, func(s *sandbox) {
			// Another repository has it or not; the emulator says that it may not be seen.
			s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadStart, Status: status, Body: `{"errors":[{"code":"DENIED","message":"denied"}]}`,
				Header: http.Header{"Location": {"/v2/acme/app/blobs/upload/none"}}})
			d, open := content([]byte("data"))
			if _, err := s.repo.PutBlob(s.Context(), d, []string{"secret/app"}, open); err != nil {
				s.Errorf("%d: %v", status, err)
			}
		})
	}
}

// TestEmptyBlob: the zero-byte blob is there and cannot be read on GHCR.
func TestEmptyBlob(t *testing.T) {
	for _, mode := range []string{"ghost", "normal"} {
		run(t, func(q *ghcrtest.Quirks) { q.EmptyBlob = mode }, registry.Options{Rules: registry.GHCR}, func(s *sandbox) { s.put(nil) })
	}
}

func TestUploadUnknownCode(t *testing.T) {
	for _, code := range []string{"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"} {
		run(t, func(q *ghcrtest.Quirks) { q.UploadUnknownCode = code }, registry.Options{}, func(s *sandbox) {
			s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, Do: func(server *ghcrtest.Server) { server.DropSessions() }})
			s.put(ghcrtest.RandomLayer(1, 1000))
		})
	}
}

// TestUploadStatus: a registry that does not tell where a session stands is begun
// anew.
func TestUploadStatus(t *testing.T) {
	for _, status := range []int{204, 404} {
		run(t, func(q *ghcrtest.Quirks) { q.UploadStatus = status }, registry.Options{}, func(s *sandbox) {
			s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, RequestBytes: 50_000, Reset: true})
			s.put(ghcrtest.RandomLayer(1, 100_000))
		})
	}
}

func TestChunkCapTrigger(t *testing.T) {
	for _, trigger := range []string{"range", "length", "either"} {
		run(t, func(q *ghcrtest.Quirks) { q.ChunkCapTrigger, q.ChunkCap = trigger, 1<<20 }, registry.Options{ChunkSize: 2 << 20}, func(s *sandbox) {
			s.put(ghcrtest.RandomLayer(1, 5<<20))
		})
	}
}

func TestHostClampsChunks(t *testing.T) {
	run(t, nil, registry.Options{Rules: registry.GHCR, ChunkSize: registry.DefaultChunkSize}, func(s *sandbox) {
		s.put(ghcrtest.RandomLayer(1, 9<<20))
		for _, r := range s.log() {
			if r.Status == http.StatusRequestedRangeNotSatisfiable {
				s.Error("a chunk was over the limit that is known of GHCR")
			}
		}
	})
}

func TestPutStream(t *testing.T) {
	for _, size := range []int{0, 1, 100_000, 9 << 20} {
		run(t, func(q *ghcrtest.Quirks) { q.EmptyBlob = "normal" }, registry.Options{}, func(s *sandbox) {
			data := ghcrtest.RandomLayer(1, size)
			s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadChunk, Status: 503, After: 1})
			d, err := s.repo.PutStream(s.Context(), "x/y", bytes.NewReader(data))
			if err != nil || d.Digest != digest.FromBytes(data) || d.Size != int64(size) {
				s.Fatalf("%d: got %v, %v", size, d, err)
			}
			if got := s.get(d); !bytes.Equal(got, data) {
				s.Errorf("%d: came back wrong", size)
			}
		})
	}
}

// TestResumeInALaterProcess: a second client with the same journal goes on with the
// session of the first.
func TestResumeInALaterProcess(t *testing.T) {
	journal := registry.OpenJournal(t.TempDir())
	run(t, nil, registry.Options{Journal: journal}, func(s *sandbox) {
		data := ghcrtest.RandomLayer(5, 20<<20)
		d, open := content(data)
		ctx, cancel := context.WithCancel(s.Context())
		// The process ends in the middle of the body.
		half := func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			r, err := open(ctx, offset)
			return struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(r, 12<<20), readerFunc(func([]byte) (int, error) { cancel(); <-ctx.Done(); return 0, ctx.Err() })), r}, err
		}
		if _, err := s.repo.PutBlob(ctx, d, nil, half); !errors.Is(err, context.Canceled) {
			s.Fatalf("got %v", err)
		}
		time.Sleep(time.Second) // the server notices
		s.server.ResetRequests()
		later := s.repository("acme/app", registry.Options{Journal: journal})
		if _, err := later.PutBlob(s.Context(), d, nil, open); err != nil {
			s.Fatal(err)
		}
		if got := s.get(d); !bytes.Equal(got, data) {
			s.Error("came back wrong")
		}
		var sent int64
		for _, r := range s.log() {
			sent += r.Received
		}
		if sent > 9<<20 {
			s.Errorf("sent %d bytes again of %d, although 12 MiB were there", sent, len(data))
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestTags(t *testing.T) {
	many := make([]string, 2345)
	for i := range many {
		many[i] = fmt.Sprintf("t%d", len(many)-i) // not in the order of the alphabet
	}
	for name, change := range map[string]func(*ghcrtest.Quirks){
		"GHCR":                func(*ghcrtest.Quirks) {},
		"TagOrder":            func(q *ghcrtest.Quirks) { q.TagOrder = "lexical" },
		"TagLinkMissingAtMax": func(q *ghcrtest.Quirks) { q.TagLinkMissingAtMax = true },
		"TagPageMax":          func(q *ghcrtest.Quirks) { q.TagPageMax = 100 },
		"Spec":                func(q *ghcrtest.Quirks) { *q = ghcrtest.Spec() },
	} {
		run(t, change, registry.Options{}, func(s *sandbox) {
			img := ghcrtest.NewIndex()
			for _, tag := range many {
				s.add(tag, img)
			}
			got, err := s.repo.TagNames(s.Context())
			if err != nil {
				s.Fatalf("%s: %v", name, err)
			}
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(many)); !slices.Equal(got, want) {
				s.Errorf("%s: got %d tags, want %d", name, len(got), len(want))
			}
		})
	}
	run(t, nil, registry.Options{}, func(s *sandbox) {
		for _, tag := range []string{"v2", "v1.0", "nightly", "v1.1"} {
			s.add(tag, ghcrtest.NewIndex())
		}
		collect := func(opts registry.TagOptions) string {
			var got []string
			for tag, err := range s.repo.Tags(s.Context(), opts) {
				if err != nil {
					s.Fatal(err)
				}
				got = append(got, tag)
			}
			return strings.Join(got, " ")
		}
		if got := collect(registry.TagOptions{Match: "v1.*"}); got != "v1.0 v1.1" {
			s.Errorf("glob: got %s", got)
		}
		if got := collect(registry.TagOptions{Regex: regexp.MustCompile(`^v\d$`)}); got != "v2" {
			s.Errorf("regex: got %s", got)
		}
		for _, err := range s.repo.Tags(s.Context(), registry.TagOptions{Match: "["}) {
			if !errors.Is(err, oci.ErrInvalid) {
				s.Errorf("got %v, want ErrInvalid", err)
			}
		}
	})
}

// TestTagPagesThatLeadInACircle end, and are not taken for a whole list.
func TestTagPagesThatLeadInACircle(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteTags, Status: 200, Times: -1, Body: `{"tags":["a"]}`,
			Header: http.Header{"Link": {`</v2/acme/app/tags/list?last=a&n=0>; rel="next"`}}})
		if got, err := s.repo.TagNames(s.Context()); err == nil || !strings.Contains(err.Error(), "circle") {
			s.Errorf("got %v, %v", got, err)
		}
		if n := len(s.log()); n > 4 {
			s.Errorf("took %d requests", n)
		}
	})
}

// TestAllTagsOnOnePage: a registry that has no pages is asked for more after a full
// one, and answers the same again.
func TestAllTagsOnOnePage(t *testing.T) {
	for _, n := range []int{1000, 1001, 2500} {
		var tags []string
		for i := range n {
			tags = append(tags, fmt.Sprintf(`"v%d"`, i))
		}
		repo := repositoryOn(t, network(func(r *http.Request) (*http.Response, error) {
			body := io.NopCloser(strings.NewReader(`{"tags":[` + strings.Join(tags, ",") + `]}`))
			return &http.Response{StatusCode: http.StatusOK, Body: body, Request: r}, nil
		}))
		if got, err := repo.TagNames(t.Context()); err != nil || len(got) != n {
			t.Errorf("%d of %d tags: %v", len(got), n, err)
		}
	}
}

// TestTagPagesWithNothingNew: pages of which all tags are hidden from the login are
// followed, but not without end.
func TestTagPagesWithNothingNew(t *testing.T) {
	for pages, whole := range map[int]bool{50: true, 1 << 30: false} {
		asked := 0
		repo := repositoryOn(t, network(func(r *http.Request) (*http.Response, error) {
			asked++
			resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"tags":[]}`)), Request: r}
			if asked < pages {
				resp.Header.Set("Link", fmt.Sprintf(`</v2/acme/app/tags/list?page=%d>; rel="next"`, asked))
			}
			return resp, nil
		}))
		if _, err := repo.TagNames(t.Context()); (err == nil) != whole {
			t.Errorf("after %d pages: %v", asked, err)
		}
		if asked > 200 {
			t.Errorf("%d pages were asked for", asked)
		}
	}
}

// TestReferrerPagesThatBreakOff are not taken for a whole list, nor for a registry
// that has no such lists.
func TestReferrerPagesThatBreakOff(t *testing.T) {
	none := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	for name, second := range map[string]*http.Response{
		"gone":        {StatusCode: http.StatusNotFound, Body: http.NoBody},
		"a page":      {StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("<html>"))},
		"in a circle": {StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(none)), Header: http.Header{"Link": {`</v2/acme/app/referrers/` + string(digest.FromString("x")) + `?page=2>; rel="next"`}}},
	} {
		repo := repositoryOn(t, network(func(r *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(none)), Request: r}
			switch {
			case !strings.Contains(r.URL.Path, "/referrers/"):
				resp.StatusCode, resp.Body = http.StatusNotFound, http.NoBody
			case r.URL.RawQuery == "":
				resp.Header = http.Header{"Link": {"<" + r.URL.Path + `?page=2>; rel="next"`}}
			default:
				again := *second
				again.Request = r
				resp = &again
			}
			return resp, nil
		}))
		if list, err := repo.Referrers(t.Context(), digest.FromString("x")); err == nil {
			t.Errorf("%s: got %v and no error", name, list)
		}
	}
}

// TestReferrersTagThatIsTheSubject: where the tag is another name of an index, what it
// lists are no referrers of it.
func TestReferrersTagThatIsTheSubject(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		index := ghcrtest.NewIndex(s.image())
		s.add("v2", index)
		s.add(oci.DigestTag(index.Digest()), index)
		if list, err := s.repo.Referrers(s.Context(), index.Digest()); err != nil || len(list) != 0 {
			s.Errorf("got %v, %v", list, err)
		}
	})
}

// TestReferrers: by the API, or by the tag that stands in for it, however the
// registry says that it has no API. The 303 is not followed.
func TestReferrers(t *testing.T) {
	for _, mode := range []string{"implemented", "404", "303", "empty"} {
		run(t, func(q *ghcrtest.Quirks) { q.Referrers = mode; q.OmitOCISubject = mode != "implemented" }, registry.Options{}, func(s *sandbox) {
			img := s.image()
			sbom, sig := ghcrtest.Refer(img, "application/spdx+json", "{}"), ghcrtest.Refer(img, "application/x.sig", "s")
			for _, r := range []*ghcrtest.Image{sbom, sig} {
				for d, data := range r.Blobs {
					_, open := content(data)
					if _, err := s.repo.PutBlob(s.Context(), oci.Descriptor{Digest: d, Size: int64(len(data))}, nil, open); err != nil {
						s.Fatal(err)
					}
				}
				// Twice, which must not list it twice.
				for range 2 {
					if err := s.repo.PutManifest(s.Context(), r.Digest().String(), r.Manifest); err != nil {
						s.Fatal(err)
					}
				}
			}
			list, err := s.repo.Referrers(s.Context(), img.Digest())
			if err != nil || len(list) != 2 {
				s.Fatalf("%s: got %v, %v", mode, list, err)
			}
			for _, r := range s.log() {
				if r.Role == ghcrtest.RoleWeb {
					s.Errorf("%s: the redirect to GitHub's web pages was followed", mode)
				}
			}
			if none, err := s.repo.Referrers(s.Context(), sbom.Digest()); err != nil || len(none) != 0 {
				s.Errorf("%s: got %v, %v", mode, none, err)
			}
		})
	}
}

// TestFallbackTagKeepsAllWriters: several writers of the tag that stands in for
// the referrers API lose no entry.
func TestFallbackTagKeepsAllWriters(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		img := s.image()
		done := make(chan error)
		const n = 8
		for i := range n {
			r := ghcrtest.Refer(img, fmt.Sprintf("application/x.%d", i), "s")
			for d, data := range r.Blobs {
				_, open := content(data)
				if _, err := s.repo.PutBlob(s.Context(), oci.Descriptor{Digest: d, Size: int64(len(data))}, nil, open); err != nil {
					s.Fatal(err)
				}
			}
			go func() { done <- s.repo.PutManifest(s.Context(), r.Digest().String(), r.Manifest) }()
		}
		for range n {
			if err := <-done; err != nil {
				s.Error(err)
			}
		}
		if list, err := s.repo.Referrers(s.Context(), img.Digest()); err != nil || len(list) != n {
			s.Errorf("got %d, %v, want %d", len(list), err, n)
		}
	})
}

// TestUnmatchedRoute: GHCR's 303 to its web pages is "not found", and never
// followed with or without a credential.
func TestUnmatchedRoute(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Status: 303, Header: http.Header{"Location": {"https://github.com/-/v2/x"}}})
		if _, err := s.repo.Manifest(s.Context(), "v1"); !errors.Is(err, oci.ErrNotFound) {
			s.Errorf("got %v, want ErrNotFound", err)
		}
		if n := len(s.log()); n != 1 {
			s.Errorf("took %d requests", n)
		}
	})
}

// TestCredentialStaysOnItsHost: the storage host sees none.
func TestCredentialStaysOnItsHost(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		s.get(s.image().Manifest.Layers[0])
		seen := false
		for _, r := range s.log() {
			if r.Role == ghcrtest.RoleCDN {
				seen = true
				if r.Credential != "none" {
					s.Errorf("the storage host was sent a %s credential", r.Credential)
				}
			}
		}
		if !seen {
			s.Error("the storage host was not asked")
		}
	})
}

// TestRedirects that must not be followed.
func TestRedirects(t *testing.T) {
	for name, location := range map[string]string{
		"down to http":    "http://pkg-containers.githubusercontent.com/x",
		"to this machine": "https://127.0.0.1/x",
		"another scheme":  "file:///etc/passwd",
		"in a circle":     "https://ghcr.io/v2/acme/app/blobs/" + digest.FromString("x").String(),
		"nowhere":         "",
	} {
		run(t, nil, registry.Options{}, func(s *sandbox) {
			s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteBlob, Status: 307, Times: -1, Header: http.Header{"Location": {location}}})
			d := oci.Descriptor{Digest: digest.FromString("x"), Size: 1}
			if _, err := s.repo.Blob(s.Context(), d, 0, -1); err == nil {
				s.Errorf("%s: it was followed", name)
			}
			if n := len(s.log()); n > 6 {
				s.Errorf("%s: %d requests", name, n)
			}
		})
	}
}

// TestRangeAnswers that are not what was asked for.
func TestRangeAnswers(t *testing.T) {
	for name, fault := range map[string]ghcrtest.Fault{
		"ignored":       {Status: 200, Body: strings.Repeat("x", 50_000)},
		"another range": {Status: 206, Header: http.Header{"Content-Range": {"bytes 0-9/50000"}}, Body: strings.Repeat("x", 10)},
		"another size":  {Status: 206, Header: http.Header{"Content-Range": {"bytes 100-109/60000"}}, Body: strings.Repeat("x", 10)},
		"malformed":     {Status: 206, Header: http.Header{"Content-Range": {"bytes 9-1/5"}}},
		"refused":       {Status: 416, Times: -1},
	} {
		run(t, nil, registry.Options{}, func(s *sandbox) {
			d := s.image().Manifest.Layers[0]
			fault.Route = ghcrtest.RouteSigned
			s.server.Inject(fault)
			if r, err := s.repo.Blob(s.Context(), d, 100, 10); err == nil {
				r.Close()
				s.Errorf("%s: it was taken for the answer", name)
			} else if name == "ignored" && !errors.Is(err, oci.ErrNoRanges) {
				s.Errorf("%s: got %v, want ErrNoRanges", name, err)
			}
		})
	}
}

// TestSignedURLReuse: the registry is asked once for the address of a blob that is
// read in pieces.
func TestSignedURLReuse(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		d := s.image().Manifest.Layers[0]
		read := func() {
			r, err := s.repo.Blob(s.Context(), d, 0, 100)
			if err != nil {
				s.Fatal(err)
			}
			io.Copy(io.Discard, r)
			r.Close()
		}
		asked := func() (n int) {
			for _, r := range s.log() {
				if r.Route == ghcrtest.RouteBlob {
					n++
				}
			}
			return n
		}
		for range 5 {
			read()
		}
		if asked() != 1 {
			s.Errorf("asked %d times", asked())
		}
		s.server.ExpireSignedURLs()
		read()
		if asked() != 2 {
			s.Errorf("asked %d times after the address had expired", asked())
		}
	})
}

func TestPlainHTTPIsForLoopback(t *testing.T) {
	client, err := transport.New(transport.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.New(client, "ghcr.io", registry.Options{PlainHTTP: true}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	for _, host := range []string{"localhost:5000", "127.0.0.1", "[::1]:80"} {
		if _, err := registry.New(client, host, registry.Options{PlainHTTP: true}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestStartOfUploadIsTriedAsOftenAsAnyRequest: what never went out is not begun anew
// on top of its retries.
func TestStartOfUploadIsTriedAsOftenAsAnyRequest(t *testing.T) {
	run(t, nil, registry.Options{}, func(s *sandbox) {
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadStart, Status: 503, Times: -1})
		desc, open := content([]byte("content"))
		if _, err := s.repo.PutBlob(s.Context(), desc, nil, open); err == nil {
			s.Error("it was put")
		}
		if n := len(s.server.Faults()); n != 4 {
			s.Errorf("asked %d times, want 4", n)
		}
	})
}
