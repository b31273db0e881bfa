package vuln

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"

	"github.com/llm-dev-ops/ghcr/oci"
)

// MaxDocumentSize is the most bytes that a document may have once it is decompressed.
// MaxBundleSize is that of a bundle that GitHub keeps compressed.
const (
	MaxDocumentSize = 20 << 20
	MaxBundleSize   = 16 << 20
)

// ErrTooLarge says that a document is larger than is read, or would be once it is
// decompressed.
var ErrTooLarge = errors.New("the document is too large")

var snappyFrame = []byte("\xff\x06\x00\x00sNaPpY")

// Unpack returns the content of a document, which may be compressed with gzip, or with
// snappy in frames or as one block, as GitHub keeps bundles. Text is returned as it
// is. No more than [MaxDocumentSize] is made of it, whatever a header announces.
//
// Errors: [ErrTooLarge]; [oci.ErrInvalid] for what is none of these.
func Unpack(content []byte) ([]byte, error) {
	if len(content) > MaxDocumentSize {
		return nil, fmt.Errorf("%w: %d bytes; the limit is %d", ErrTooLarge, len(content), MaxDocumentSize)
	}
	switch {
	case bytes.HasPrefix(content, snappyFrame):
		return readAll("snappy", snappy.NewReader(bytes.NewReader(content)), MaxBundleSize)
	case bytes.HasPrefix(content, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return nil, oci.Invalid("gzip: %w", err)
		}
		return readAll("gzip", r, MaxDocumentSize)
	case isText(content):
		return content, nil
	}
	size, err := snappy.DecodedLen(content)
	if err != nil {
		return nil, oci.Invalid("the document is neither text nor gzip nor snappy")
	}
	if size > MaxBundleSize {
		return nil, fmt.Errorf("%w: it announces %d bytes; the limit is %d", ErrTooLarge, size, MaxBundleSize)
	}
	text, err := snappy.Decode(nil, content)
	if err != nil {
		return nil, oci.Invalid("the document is neither text nor gzip, and no whole snappy either: %w", err)
	}
	return text, nil
}

// isText tells whether the content begins as one of the formats that are text does.
func isText(content []byte) bool {
	content = bytes.TrimLeft(bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")), " \t\r\n")
	return len(content) == 0 || bytes.ContainsAny(content[:1], "{[<") || bytes.HasPrefix(content, []byte("SPDXVersion:"))
}

func readAll(format string, r io.Reader, limit int) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case len(text) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes of %s", ErrTooLarge, limit, format)
	case err != nil:
		return nil, oci.Invalid("%s: %w", format, err)
	}
	return text, nil
}
