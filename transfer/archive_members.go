package transfer

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/oci"
)

// member is where in an archive the content of one of its files is.
type member struct{ offset, size int64 }

// maxMembers bounds the members of an archive; an image has a few hundred.
const maxMembers = 1 << 17

// memberName gives each name its one spelling. Nothing is ever extracted, so a
// name can do no harm: it is only looked up.
func memberName(name string) string { return path.Clean(name) }

// blobMember is the name of a blob in a layout that is in a tar file.
func blobMember(d oci.Digest) string {
	return path.Join(v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// indexTar notes where each file of a tar file is, without reading contents. Links
// stand for what they lead to: older versions of docker link layers that are the
// same.
func indexTar(r io.ReaderAt, size int64) (map[string]member, error) {
	section := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(section)
	members, links := map[string]member{}, map[string]string{}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("not readable as tar: %w", err)
		}
		if len(members)+len(links) >= maxMembers {
			return nil, fmt.Errorf("it has more than %d members", maxMembers)
		}
		name := memberName(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if isSparse(h) {
				return nil, fmt.Errorf("%s is stored with holes, which images are not: make the archive without --sparse", name)
			}
			at, err := section.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			if h.Size > size-at {
				return nil, fmt.Errorf("it ends in the middle of %s", name)
			}
			members[name] = member{at, h.Size}
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			links[name] = memberName(h.Linkname)
		}
	}
	followLinks(members, links)
	if len(members) == 0 {
		return nil, fmt.Errorf("it is no tar file, or an empty one")
	}
	return members, nil
}

// isSparse tells whether the content in the archive is not the file's own bytes.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// maxLinks bounds how many links may lead to one file, so that a ring of them
// ends.
const maxLinks = 8

func followLinks(members map[string]member, links map[string]string) {
	for name := range links {
		target := name
		for range maxLinks {
			next, ok := links[target]
			if !ok {
				break
			}
			target = next
		}
		if m, ok := members[target]; ok {
			members[name] = m
		}
	}
}
