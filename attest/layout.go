package attest

import (
	"mime"
	"strings"
)

const (
	bundleType     = "application/vnd.dev.sigstore.bundle"
	bundleV03      = "application/vnd.dev.sigstore.bundle.v0.3+json"
	dsseType       = "application/vnd.dsse.envelope.v1+json"
	inTotoType     = "application/vnd.in-toto+json"
	simpleType     = "application/vnd.dev.cosign.simplesigning.v1+json"
	notationType   = "application/vnd.cncf.notary.signature"
	createdNote    = "org.opencontainers.image.created"
	predicateNote  = "in-toto.io/predicate-type"
	bundlePredNote = "dev.sigstore.bundle.predicateType"
	contentNote    = "dev.sigstore.bundle.content"
)

func layoutOf(artifactType, mediaType string) Layout {
	base, _, err := mime.ParseMediaType(mediaType)
	if err != nil {
		base = mediaType
	}
	switch {
	case strings.HasPrefix(artifactType, notationType):
		return LayoutNotation
	case strings.HasPrefix(base, bundleType), strings.HasPrefix(artifactType, bundleType):
		return LayoutBundle
	case base == dsseType:
		return LayoutDSSE
	case base == simpleType:
		return LayoutSimpleSigning
	case strings.HasPrefix(base, "application/vnd.in-toto"):
		return LayoutInToto
	}
	return LayoutDocument
}

// predicateOf returns the predicate type that says the same as the media type of a
// bare document.
func predicateOf(mediaType string) string {
	switch {
	case mediaType == simpleType:
		return PredicateSignature
	case strings.HasPrefix(mediaType, "application/spdx"), strings.HasPrefix(mediaType, "text/spdx"):
		return PredicateSPDX
	case strings.HasPrefix(mediaType, "application/vnd.cyclonedx"):
		return PredicateCycloneDX
	case strings.HasPrefix(mediaType, "application/vnd.openvex"), strings.HasPrefix(mediaType, "application/openvex"):
		return PredicateOpenVEX
	}
	return ""
}
