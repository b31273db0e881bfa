package cassette

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// The annotations of a cassette's manifest.
const (
	AnnotationCreated = "org.opencontainers.image.created"
	// AnnotationOrigin is "live" for a recording of a real service and "emulator" for
	// one of a stand-in, which proves nothing about the real one.
	AnnotationOrigin = "com.github.llm-dev-ops.cassette.origin"
	// AnnotationHosts are the hosts that were spoken to.
	AnnotationHosts = "com.github.llm-dev-ops.cassette.hosts"
	// AnnotationSeed is [Cassette.Seed], in hexadecimal.
	AnnotationSeed = "com.github.llm-dev-ops.cassette.seed"
)

// sealing makes a cassette of a journal and bodies.
type sealing struct {
	store   *store
	secrets *secrets
	entries []*Interaction
	seed    [32]byte // zero if it is not known
}

// seal writes everything, looks for secrets in all of it, and puts the index in
// place last, so that there is the old cassette or the new one.
func (s *sealing) seal(ctx context.Context, origin string, now time.Time) error {
	if err := s.slices(ctx); err != nil {
		return err
	}
	var journal bytes.Buffer
	var prev oci.Digest
	for n, e := range s.entries {
		e.Seq, e.Prev = n+1, prev
		line, err := e.encode()
		if err != nil {
			return err
		}
		if what := s.find(bytes.NewReader(line)); what != "" {
			return &LeakError{Where: e.place(), What: what}
		}
		prev = lineDigest(line)
		journal.Write(line)
	}
	m := manifest{SchemaVersion: 2, MediaType: oci.MediaTypeOCIManifest, ArtifactType: ArtifactType}
	layers, err := s.bodies(ctx)
	if err != nil {
		return err
	}
	journalLayer, err := s.store.writeBlob(MediaTypeJournal, journal.Bytes())
	if err != nil {
		return err
	}
	m.Layers = append([]oci.Descriptor{journalLayer}, layers...)
	if m.Config, err = s.store.writeBlob(oci.MediaTypeEmpty, []byte(emptyConfig)); err != nil {
		return err
	}
	m.Annotations = map[string]string{
		AnnotationCreated: now.UTC().Format(time.RFC3339),
		AnnotationOrigin:  cmp.Or(origin, "live"),
		AnnotationHosts:   strings.Join(s.hosts(), " "),
	}
	if s.seed != [32]byte{} {
		m.Annotations[AnnotationSeed] = hex.EncodeToString(s.seed[:])
	}
	raw, err := marshal(m)
	if err != nil {
		return err
	}
	if len(raw) > oci.MaxManifestSize {
		return fmt.Errorf("cassette %s: it has %d bodies, more than one manifest can list; record less at once", s.store.dir, len(layers))
	}
	if what := s.find(bytes.NewReader(raw)); what != "" {
		return &LeakError{Where: "the manifest of the cassette", What: what}
	}
	d, err := s.store.writeBlob(oci.MediaTypeOCIManifest, raw)
	if err != nil {
		return err
	}
	d.ArtifactType = ArtifactType
	list, err := marshal(layoutIndex{SchemaVersion: 2, MediaType: oci.MediaTypeOCIIndex, Manifests: []oci.Descriptor{d}})
	if err != nil {
		return err
	}
	if err := s.store.write(layoutFile, []byte(layoutHeader)); err != nil {
		return err
	}
	if err := s.store.write(indexFile, list); err != nil {
		return err
	}
	// This is the cassette now, so that no failure from here on takes it away.
	s.store.settle()
	s.store.root.Remove(journalFile)
	keep := set(d.Digest.Encoded(), m.Config.Digest.Encoded())
	for _, l := range m.Layers {
		keep[l.Digest.Encoded()] = true
	}
	return s.store.prune(keep)
}

// place says which interaction it is without its URL, which may hold the secret.
func (i *Interaction) place() string {
	return fmt.Sprintf("interaction %d, %s (%s) at %s,", i.Seq, i.Request.Method, i.Request.Route, i.Request.Host)
}

func (s *sealing) find(r io.Reader) string {
	scan := &scanner{secrets: s.secrets}
	io.Copy(scan, r)
	return scan.finish()
}

func (s *sealing) hosts() []string {
	hosts := map[string]bool{}
	for _, e := range s.entries {
		hosts[e.Request.Host] = true
	}
	return slices.Sorted(maps.Keys(hosts))
}

// bodies checks each body once more and returns the layers, by digest.
func (s *sealing) bodies(ctx context.Context) ([]oci.Descriptor, error) {
	where := map[oci.Digest]*Interaction{}
	for _, e := range s.entries {
		for _, b := range []*Body{&e.Request.Body, &e.Response.Body} {
			if d := b.file(); d != "" {
				where[d] = e
			}
		}
	}
	var layers []oci.Descriptor
	for _, d := range slices.Sorted(maps.Keys(where)) {
		f, size, err := s.store.open(blobName(d))
		if err != nil {
			return nil, err
		}
		scan := &scanner{secrets: s.secrets}
		got, _, err := digestOf(ctx, f, scan)
		f.Close()
		what := scan.finish()
		e := where[d]
		switch {
		case err != nil:
			return nil, err
		case got != d:
			return nil, s.store.broken("%w", &oci.IntegrityError{What: "body", Want: d, Got: got})
		case what != "":
			return nil, &LeakError{Where: "a body of " + e.place(), What: what}
		}
		layers = append(layers, oci.Descriptor{MediaType: MediaTypeBody, Digest: d, Size: size})
	}
	return layers, nil
}

// prune removes the bodies of what was there before.
func (s *store) prune(keep map[string]bool) error {
	names, err := s.list(shaDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !keep[name] {
			if err := s.root.Remove(shaDir + "/" + name); err != nil {
				return err
			}
		}
	}
	return nil
}

// piece is a body that is a part of a blob.
type piece struct {
	body  *Body
	first int64
}

// slices keeps what was read in pieces once and whole, where the pieces or another
// answer have all of it.
func (s *sealing) slices(ctx context.Context) error {
	pieces := map[oci.Digest][]piece{}
	total := map[oci.Digest]int64{}
	whole := map[oci.Digest]bool{}
	for _, e := range s.entries {
		a := &e.Response
		if a.Body.Mode != BodyBlob {
			continue
		}
		if !a.Body.Partial {
			whole[a.Body.Digest] = true
		}
		u, err := url.Parse(e.Request.URL())
		if err != nil {
			continue
		}
		d := oci.Digest(routeOf(u).ref)
		if checkDigest(d) != nil || a.Body.Digest == d {
			continue
		}
		first, last, size, ok := contentRange(a.Header.Get("Content-Range"))
		switch {
		case a.Status == http.StatusPartialContent && ok && a.Body.Size <= last-first+1:
		case a.Status == http.StatusOK && a.Body.Partial && a.Length > 0:
			first, size = 0, a.Length
		default:
			continue
		}
		pieces[d] = append(pieces[d], piece{&a.Body, first})
		total[d] = size
	}
	for d, list := range pieces {
		if !whole[d] {
			done, err := s.assemble(ctx, d, total[d], list)
			if err != nil {
				return err
			}
			if !done {
				continue
			}
		}
		if err := s.slice(ctx, d, list); err != nil {
			return err
		}
	}
	return nil
}

// contentRange reads "bytes <first>-<last>/<size>".
func contentRange(v string) (first, last, size int64, ok bool) {
	n, err := fmt.Sscanf(v, "bytes %d-%d/%d", &first, &last, &size)
	return first, last, size, err == nil && n == 3 && first >= 0 && last >= first && size > last
}

// assemble makes a blob of its pieces, if they have all of it.
func (s *sealing) assemble(ctx context.Context, d oci.Digest, size int64, list []piece) (bool, error) {
	list = slices.SortedFunc(slices.Values(list), func(a, b piece) int { return cmp.Compare(a.first, b.first) })
	var chosen []piece
	var end int64
	for _, p := range list {
		if p.first <= end && p.first+p.body.Size > end {
			chosen = append(chosen, p)
			end = p.first + p.body.Size
		}
	}
	if end != size {
		return false, nil
	}
	out, err := s.store.create()
	if err != nil {
		return false, err
	}
	end = 0
	for _, p := range chosen {
		f, _, err := s.store.open(blobName(p.body.Digest))
		if err == nil {
			skip := end - p.first
			var n int64
			n, err = io.CopyBuffer(struct{ io.Writer }{out}, io.NewSectionReader(f, skip, p.body.Size-skip), make([]byte, 64<<10))
			end += n
			err = errors.Join(err, f.Close(), ctx.Err())
		}
		if err != nil {
			out.drop()
			return false, err
		}
	}
	got, _, err := digestOf(ctx, io.NewSectionReader(out, 0, size), nil)
	if err != nil || got != d {
		out.drop()
		return false, err // pieces of different content under one name are kept as they are
	}
	return true, out.keep(blobName(d), false)
}

// slice replaces pieces by parts of the blob.
func (s *sealing) slice(ctx context.Context, d oci.Digest, list []piece) error {
	f, size, err := s.store.open(blobName(d))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range list {
		if p.first+p.body.Size > size {
			continue
		}
		got, _, err := digestOf(ctx, io.NewSectionReader(f, p.first, p.body.Size), nil)
		if err != nil {
			return err
		}
		if got == p.body.Digest {
			p.body.Mode, p.body.Of, p.body.Offset = BodySlice, d, p.first
		}
	}
	return nil
}
