// Package transfer hides how a graph of content is moved: in which order, with
// how many requests at once, what is mounted instead of sent, how a cut download
// goes on where it ended, and that nothing gets its name before its digest holds.
//
// Begin with [Copy]. It moves an image between any [Source] and any [Target]: a
// registry's repository (of package registry, which this package does not know),
// an OCI image layout ([OpenLayout]) or a docker-archive ([OpenArchive]).
package transfer

import (
	"context"
	"io"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Source is where content comes from. Implementations are safe for concurrent
// use.
type Source interface {
	// Manifest returns the manifest that a tag or digest names, its bytes checked
	// against the digest.
	//
	// Errors: [oci.ErrNotFound], [oci.ErrIntegrity], [oci.ErrInvalid] where the
	// source itself is broken.
	Manifest(ctx context.Context, ref string) (*oci.Manifest, error)

	// Blob opens length bytes of a blob from an offset; a negative length means
	// to the end. The caller closes it, and checks the digest: the source need
	// not. Fewer bytes than asked for are an error of the reader, never silence.
	//
	// Errors: [oci.ErrNotFound].
	Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error)
}

// Target is where content goes. Implementations are safe for concurrent use.
type Target interface {
	// Resolve returns the descriptor of the manifest that a tag or digest names.
	//
	// Errors: [oci.ErrNotFound].
	Resolve(ctx context.Context, ref string) (oci.Descriptor, error)

	// PutBlob stores a blob. It first tries what is cheaper than moving bytes: that
	// the blob is there, or that it can be mounted from one of the repositories
	// given, best first. The blob has its name only once its digest holds.
	//
	// Errors: [oci.ErrIntegrity] when open gave other bytes.
	PutBlob(ctx context.Context, d oci.Descriptor, mount []string, open oci.Opener) (oci.Stored, error)

	// PutManifest stores a manifest byte for byte under a tag or its digest.
	//
	// Errors: [*oci.MissingBlobsError] when the target says what it lacks.
	PutManifest(ctx context.Context, ref string, m *oci.Manifest) error
}

// Optional powers, found by assertion.
type (
	// Tagger is a source that can list its tags, for digest tags and --all-tags.
	Tagger interface {
		TagNames(ctx context.Context) ([]string, error)
	}
	// Referrerer is a source that knows which manifests have a digest as subject.
	Referrerer interface {
		Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error)
	}
	// Locator is an end in a registry. Ends on the same host can mount blobs, and
	// what is learned about where blobs are is remembered for the host.
	Locator interface {
		Location() (host, repository string)
	}
	// Validator is a target that refuses a manifest while content is missing, so
	// that what is remembered may be trusted: the refusal names what is wrong.
	Validator interface {
		ValidatesManifests() bool
	}
	// Checker is a source on this machine. It can tell before anything is sent
	// whether a blob is there and of the right size, and after the other side refused
	// it whether its bytes are right.
	Checker interface {
		CheckBlob(ctx context.Context, d oci.Descriptor) error
		VerifyBlob(ctx context.Context, d oci.Descriptor) error
	}
	// Stager is a target that takes a blob in pieces: out of order, from several
	// connections, and where an earlier process left off. A nil stage without an
	// error says that the blob is there.
	Stager interface {
		Stage(ctx context.Context, d oci.Descriptor) (*Stage, error)
	}
)
