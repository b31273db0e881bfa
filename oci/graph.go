package oci

import (
	"iter"
	"strings"
)

// EdgeKind says how a manifest points at something.
type EdgeKind string

// The kinds of edge.
const (
	EdgeConfig  EdgeKind = "config"
	EdgeLayer   EdgeKind = "layer"
	EdgeChild   EdgeKind = "child"   // a manifest listed by an index
	EdgeSubject EdgeKind = "subject" // the manifest that this one is about; may be absent
	// EdgeAttests goes from an index entry that BuildKit made to the entry it
	// vouches for: From says which entry has it.
	EdgeAttests EdgeKind = "attests"
)

// Edge is one thing that a manifest points at.
type Edge struct {
	Kind       EdgeKind
	Descriptor Descriptor
	From       Digest // only for [EdgeAttests]: the attestation's own digest
}

// BuildKit marks its attestations among the entries of an index with these.
const (
	annotationReferenceType   = "vnd.docker.reference.type"
	annotationReferenceDigest = "vnd.docker.reference.digest"
	attestationManifest       = "attestation-manifest"
)

// Edges yields what the manifest points at, in the order it says so. Entries of
// an index that are no manifests, such as the layers of a BuildKit cache, are
// layers, not children.
func (m *Manifest) Edges() iter.Seq[Edge] {
	return func(yield func(Edge) bool) {
		if m.Config != nil && !yield(Edge{Kind: EdgeConfig, Descriptor: *m.Config}) {
			return
		}
		for _, d := range m.Layers {
			if !yield(Edge{Kind: EdgeLayer, Descriptor: d}) {
				return
			}
		}
		byDigest := map[Digest]Descriptor{}
		for _, d := range m.Manifests {
			byDigest[d.Digest] = d
			kind := EdgeLayer
			if IsManifestType(d.MediaType) {
				kind = EdgeChild
			}
			if !yield(Edge{Kind: kind, Descriptor: d}) {
				return
			}
		}
		for _, d := range m.Manifests {
			about, ok := AttestationOf(d)
			if !ok {
				continue
			}
			if target, ok := byDigest[about]; ok && !yield(Edge{Kind: EdgeAttests, Descriptor: target, From: d.Digest}) {
				return
			}
		}
		if m.Subject != nil {
			yield(Edge{Kind: EdgeSubject, Descriptor: *m.Subject})
		}
	}
}

// AttestationOf returns the digest of the manifest that an index entry vouches
// for, if BuildKit marked it as an attestation. An entry that is not for the
// platform unknown/unknown is an image, whatever its annotations say: it can be run.
func AttestationOf(d Descriptor) (Digest, bool) {
	p := d.Platform
	if d.Annotations[annotationReferenceType] != attestationManifest || p == nil || p.OS != "unknown" || p.Architecture != "unknown" {
		return "", false
	}
	about, err := ParseDigest(d.Annotations[annotationReferenceDigest])
	return about, err == nil
}

var digestTag = pattern(`^(sha256|sha512)-([0-9a-f]{64,128})((?:\..+)?)$`)

// ParseDigestTag reads a tag that names a digest, such as "sha256-<hex>.sig". The
// suffix, with its dot, is empty for the tag of the referrers fallback.
func ParseDigestTag(tag string) (about Digest, suffix string, ok bool) {
	m := digestTag().FindStringSubmatch(tag)
	if m == nil {
		return "", "", false
	}
	d, err := ParseDigest(m[1] + ":" + m[2])
	if err != nil {
		return "", "", false
	}
	return d, m[3], true
}

// DigestTag returns the tag under which clients keep the referrers of a digest
// where the registry has no referrers API (docs/quirks.md#referrers).
func DigestTag(d Digest) string {
	return strings.Replace(d.String(), ":", "-", 1)
}
