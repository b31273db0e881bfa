// Package oci hides the data model of container images: how a reference is
// written, what a manifest says, which platform an entry is for and which
// content hangs on which. It is pure data and does no I/O.
//
// Begin with [ParseRef], which reads what a user types, and [ParseManifest],
// which keeps the exact bytes of a manifest beside a view of them. [Edges]
// lists what a manifest points at.
//
// Descriptors, digests and platforms are the types of the OCI image
// specification, so that values pass to and from other libraries unchanged.
package oci

import (
	digest "github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

type (
	// Descriptor names content by media type, digest and size in bytes.
	Descriptor = v1.Descriptor
	// Platform says which operating system and processor content is for.
	Platform = v1.Platform
	// Digest is an algorithm and a hash in hexadecimal, such as
	// "sha256:e3b0c4…".
	Digest = digest.Digest
)

// Media types of manifests that are understood. Others are carried byte for
// byte and reported as [KindUnknown].
const (
	MediaTypeOCIManifest    = v1.MediaTypeImageManifest
	MediaTypeOCIIndex       = v1.MediaTypeImageIndex
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	// MediaTypeArtifactManifest was withdrawn before the 1.1 specification and is
	// still met in registries.
	MediaTypeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json"
	MediaTypeEmpty            = v1.MediaTypeEmptyJSON
)

// ManifestTypes are the media types to accept when a manifest is asked for.
// GHCR hides an index from clients that leave out its type
// (docs/quirks.md#strict-index-accept).
var ManifestTypes = []string{
	MediaTypeOCIIndex, MediaTypeOCIManifest, MediaTypeDockerList, MediaTypeDockerManifest,
}

// Limits that GHCR sets, in bytes. They are checked before anything is sent.
const (
	MaxManifestSize = 4 << 20
	MaxLayerSize    = 10 << 30
)

// IsManifestType tells whether content of this media type is itself a manifest,
// and so a node of the graph, not a leaf.
func IsManifestType(mediaType string) bool {
	switch mediaType {
	case MediaTypeOCIManifest, MediaTypeOCIIndex, MediaTypeDockerManifest, MediaTypeDockerList, MediaTypeArtifactManifest:
		return true
	}
	return false
}

// IsIndexType tells whether content of this media type lists other manifests.
func IsIndexType(mediaType string) bool {
	return mediaType == MediaTypeOCIIndex || mediaType == MediaTypeDockerList
}
