package ghcrtest

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

func (x *exchange) manifest() {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		if x.authorize("pull") {
			x.getManifest()
		}
	case http.MethodPut:
		if x.authorize("push") {
			x.putManifest()
		}
	case http.MethodDelete:
		if x.server.quirks.ManifestDelete == http.StatusMethodNotAllowed {
			x.unsupported()
		} else if x.authorize("delete") {
			x.deleteManifest()
		}
	default:
		x.unsupported()
	}
}

func (x *exchange) getManifest() {
	v := x.server.store.manifest(x.repo, x.ref)
	if v == nil {
		x.manifestUnknown()
		return
	}
	if x.server.quirks.StrictIndexAccept && v.manifest.IsIndex() && !accepts(x.r.Header.Values("Accept"), v.desc.MediaType) {
		x.fail(http.StatusNotFound, "MANIFEST_UNKNOWN", "OCI index found, but Accept header does not support OCI indexes")
		return
	}
	h := x.w.Header()
	h.Set("Content-Type", v.desc.MediaType)
	h.Set("Docker-Content-Digest", v.desc.Digest.String())
	h.Set("ETag", `"`+v.desc.Digest.String()+`"`)
	x.apiVersion()
	if x.server.quirks.ManifestConditional && x.r.Header.Get("If-None-Match") == h.Get("ETag") {
		x.w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(v.manifest.Bytes())))
	x.w.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return
	}
	if x.server.quirks.CountDownloads {
		v.downloads.Add(1)
	}
	x.w.Write(v.manifest.Bytes())
}

// accepts tells whether a media type is accepted by its own name: "*/*" does not
// do on GHCR.
func accepts(headers []string, mediaType string) bool {
	for _, h := range headers {
		for part := range strings.SplitSeq(h, ",") {
			if t, _, err := mime.ParseMediaType(part); err == nil && t == mediaType {
				return true
			}
		}
	}
	return false
}

func (x *exchange) putManifest() {
	q := x.server.quirks
	var want oci.Digest
	if strings.Contains(x.ref, ":") {
		d, ok := x.digest(x.ref)
		if !ok {
			return
		}
		want = d
	} else if err := oci.CheckTag(x.ref); err != nil {
		x.fail(http.StatusBadRequest, "TAG_INVALID", err.Error())
		return
	}
	if !x.nameOK() {
		return
	}
	raw, err := io.ReadAll(io.LimitReader(x.r.Body, q.MaxManifest+1))
	if err != nil {
		x.abort(false) // the connection broke; saying nothing would be a 200
	}
	if int64(len(raw)) > q.MaxManifest {
		x.fail(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "manifest is too large")
		return
	}
	mediaType, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	m, err := oci.ParseManifest(mediaType, raw)
	if err != nil {
		x.fail(http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	if want == "" {
		want = m.Digest()
		if alg := oci.Digest(x.r.URL.Query().Get("digest")); alg != "" && alg.Validate() == nil {
			want = alg // the specification's way to store a tag under another algorithm
		}
	}
	if err := m.Verify(want); err != nil {
		x.fail(http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	if missing := x.server.store.missing(x.repo, m, q.CheckIndexChildren); len(missing) > 0 {
		x.missingBlobs(missing)
		return
	}
	create := !q.IgnoreIfNoneMatch && x.r.Header.Get("If-None-Match") == "*"
	switch err := x.server.storeManifest(x.repo, x.ref, want, m, event{create: create, workflow: x.who.workflow()}); {
	case errors.Is(err, errExists):
		x.fail(http.StatusPreconditionFailed, "DENIED", err.Error())
		return
	case err != nil:
		x.internal(err)
		return
	}
	h := x.w.Header()
	h.Set("Location", "/v2/"+x.repo+"/manifests/"+want.String())
	h.Set("Docker-Content-Digest", want.String())
	if m.Subject != nil && !q.OmitOCISubject {
		h.Set("OCI-Subject", m.Subject.Digest.String())
	}
	x.apiVersion()
	h.Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusCreated)
}

// storeManifest stores a manifest under a tag or its digest. The event is how, and by
// whom.
func (s *Server) storeManifest(repo, ref string, d oci.Digest, m *oci.Manifest, e event) error {
	if err := s.contents.put(d, m.Bytes()); err != nil {
		return err
	}
	e.Op, e.Repo, e.Digest, e.MediaType, e.manifest = opManifest, repo, d, m.MediaType, m
	e.labels, e.Repository = s.readLabels(repo, m)
	if !strings.Contains(ref, ":") {
		e.Tag = ref
	}
	return s.store.apply(e)
}

func (x *exchange) missingBlobs(missing []oci.Digest) {
	if x.server.quirks.MissingBlobDetails == "first" {
		missing = missing[:1]
	}
	list := make([]wireError, len(missing))
	for i, d := range missing {
		list[i] = wireError{Code: "MANIFEST_BLOB_UNKNOWN", Message: "blob unknown to registry", Detail: d.String()}
	}
	x.failAll(http.StatusBadRequest, list...)
}

func (x *exchange) deleteManifest() {
	v := x.server.store.manifest(x.repo, x.ref)
	if v == nil {
		x.manifestUnknown()
		return
	}
	e := event{Op: opDelete, Repo: x.repo, Digest: v.desc.Digest}
	if !strings.Contains(x.ref, ":") {
		e = event{Op: opUntag, Repo: x.repo, Tag: x.ref}
	}
	if err := x.server.store.apply(e); err != nil {
		x.internal(err)
		return
	}
	x.w.WriteHeader(x.server.quirks.ManifestDelete)
}

func (x *exchange) nameOK() bool {
	if err := oci.CheckName(x.repo); err != nil {
		x.fail(http.StatusBadRequest, "NAME_INVALID", err.Error())
		return false
	}
	return true
}

func (x *exchange) tags() {
	if x.r.Method != http.MethodGet {
		x.unsupported()
		return
	}
	if !x.authorize("pull") {
		return
	}
	q := x.server.quirks
	if !x.server.store.exists(x.repo) {
		x.fail(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	lexical := q.TagOrder == "lexical"
	all := x.server.store.tags(x.repo, lexical)
	x.list(all, lexical, q.TagPageDefault, q.TagPageMax, func(page []string) any {
		return map[string]any{"name": x.repo, "tags": page}
	})
}

func (x *exchange) catalog() {
	if !x.server.quirks.Catalog {
		x.challenge()
		return
	}
	if !x.server.open {
		if _, ok := x.identify(); !ok {
			return
		}
	}
	x.list(x.server.store.repositories(), true, 0, 0, func(page []string) any {
		return map[string]any{"repositories": page}
	})
}

// list answers one page of a list.
func (x *exchange) list(all []string, lexical bool, pageDefault, pageMax int, answer func([]string) any) {
	query := x.r.URL.Query()
	n, asked := pageDefault, query.Get("n")
	unlimited := n == 0
	if asked != "" {
		var err error
		if n, err = strconv.Atoi(asked); err != nil || n < 0 {
			x.fail(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "invalid n")
			return
		}
		unlimited = false
		if n == 0 && pageDefault > 0 {
			n = pageDefault // what GHCR's own Link asks for
		}
	}
	if pageMax > 0 && n > pageMax {
		n = pageMax
	}
	if last := query.Get("last"); last != "" {
		all = after(all, last, lexical)
	}
	page := all
	if !unlimited && len(page) > n {
		page = page[:n]
	}
	if len(page) < len(all) && len(page) > 0 && !(x.server.quirks.TagLinkMissingAtMax && n == pageMax) {
		next := url.Values{"last": {page[len(page)-1]}, "n": {strconv.Itoa(n)}}
		if asked == "" && x.server.quirks.TagLinkN0 {
			next.Set("n", "0")
		}
		x.w.Header().Set("Link", "<"+x.r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	if page == nil {
		page = []string{}
	}
	x.apiVersion()
	x.w.Header().Set("Content-Type", "application/json")
	body := append(marshal(answer(page)), '\n')
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.w.Write(body)
}

// after returns what follows last: by name, or by place where the order is that of
// insertion.
func after(all []string, last string, lexical bool) []string {
	if lexical {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		return all[i:]
	}
	if i := slices.Index(all, last); i >= 0 {
		return all[i+1:]
	}
	return nil
}

func (x *exchange) referrers() {
	if x.r.Method != http.MethodGet {
		x.unsupported()
		return
	}
	q := x.server.quirks
	if !x.authorize("pull") {
		return
	}
	switch q.Referrers {
	case "303":
		x.seeOther()
		return
	case "404":
		x.manifestUnknown()
		return
	}
	d, ok := x.digest(x.ref)
	if !ok {
		return
	}
	list := []oci.Descriptor{}
	if q.Referrers == "implemented" {
		list = x.server.store.referrers(x.repo, d)
	}
	if want := x.r.URL.Query().Get("artifactType"); want != "" {
		list = slices.DeleteFunc(list, func(d oci.Descriptor) bool { return d.ArtifactType != want })
		x.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	x.apiVersion()
	x.w.Header().Set("Content-Type", oci.MediaTypeOCIIndex)
	json.NewEncoder(x.w).Encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": list,
	})
}
