package cassette

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// checkContent finds an interaction that contradicts the digests in it.
func checkContent(e *Interaction) error {
	u, err := url.Parse(e.Request.URL())
	if err != nil {
		return err
	}
	r := routeOf(u)
	a := &e.Response
	stated := oci.Digest(a.Header.Get("Docker-Content-Digest"))
	named := oci.Digest(r.ref)
	if r.name == routeUpload || r.name == routeStart {
		named = oci.Digest(u.Query().Get("digest") + u.Query().Get("mount"))
	}
	same := func(what string, want, got oci.Digest) error {
		if want.Validate() != nil || got.Validate() != nil || want.Algorithm() != got.Algorithm() || want == got {
			return nil
		}
		return wrongContent(e, &oci.IntegrityError{What: what, Want: want, Got: got})
	}
	var content oci.Digest
	switch {
	case a.Status < 200 || a.Status > 299:
		return nil
	case r.name != routeManifest && r.name != routeBlob && r.name != routeSigned && r.name != routeUpload && r.name != routeStart:
		return nil
	case e.Request.Method == http.MethodGet && a.Status == http.StatusOK && !a.Body.Partial && !a.Body.Redacted:
		content = a.Body.Digest
		if a.Body.Mode == BodyEmpty {
			content = digest.FromString("")
		}
	case e.Request.Method == http.MethodPut && r.name == routeManifest && !e.Request.Body.Partial && !e.Request.Body.Redacted:
		content = e.Request.Body.Digest
	}
	if r.name == routeUpload && (e.Request.Method != http.MethodPut || a.Status == http.StatusAccepted) || r.name == routeStart && a.Status != http.StatusCreated {
		return nil
	}
	return errors.Join(same("Docker-Content-Digest", named, stated), same("content", named, content), same("content", stated, content))
}

func wrongContent(e *Interaction, err error) error {
	return fmt.Errorf("%s %s: the answer contradicts its digest (Options.AllowWrongDigests allows that): %w", e.Request.Method, path.Clean(e.Request.Path), err)
}
