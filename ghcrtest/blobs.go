package ghcrtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

var emptyDigest = digest.FromBytes(nil)

func (x *exchange) blob() {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		if x.authorize("pull") {
			x.getBlob()
		}
	case http.MethodDelete:
		if x.server.quirks.BlobDelete == http.StatusMethodNotAllowed {
			x.unsupported()
		} else if x.authorize("delete") {
			x.deleteBlob()
		}
	default:
		x.unsupported()
	}
}

func (x *exchange) getBlob() {
	q := x.server.quirks
	d, ok := x.digest(x.ref)
	if !ok {
		return
	}
	ghost := d == emptyDigest && q.EmptyBlob == "ghost"
	has, referenced := x.server.store.hasBlob(x.repo, d)
	head := x.r.Method == http.MethodHead
	if ghost {
		has, referenced = head, true
	}
	if !has || !head && !referenced && !q.UnreferencedBlobs {
		x.blobUnknown()
		return
	}
	x.apiVersion()
	x.w.Header().Set("Docker-Content-Digest", d.String())
	x.w.Header().Set("Content-Type", "application/octet-stream")
	if head && ghost {
		x.w.Header().Set("Content-Length", "0")
		x.w.WriteHeader(http.StatusOK)
		return
	}
	if !head && q.BlobRedirect {
		x.w.Header().Set("Location", x.server.sign(x.r, blobPath+d.String()))
		x.w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	x.sendContent(d)
}

// sendContent answers with content, or the part of it that Range asks for.
func (x *exchange) sendContent(d oci.Digest) {
	f, err := x.server.contents.open(d)
	if err != nil {
		x.blobUnknown()
		return
	}
	defer f.Close()
	x.w.Header().Set("Content-Type", "application/octet-stream")
	x.w.Header().Set("ETag", `"`+d.String()+`"`)
	x.w.hideRanges = x.server.quirks.OmitAcceptRanges
	http.ServeContent(x.w, x.r, "", time.Time{}, f)
}

func (x *exchange) deleteBlob() {
	d, ok := x.digest(x.ref)
	if !ok {
		return
	}
	if has, _ := x.server.store.hasBlob(x.repo, d); !has {
		x.blobUnknown()
		return
	}
	if err := x.server.store.apply(event{Op: opUnlinkBlob, Repo: x.repo, Digest: d}); err != nil {
		x.internal(err)
		return
	}
	x.w.WriteHeader(x.server.quirks.BlobDelete)
}

// sign returns the address of what the storage host has under a path, good for a while.
func (s *Server) sign(r *http.Request, path string) string {
	expiry := s.now().Add(s.quirks.SignedURLTTL).UTC().Format(time.RFC3339Nano)
	query := url.Values{"se": {expiry}, "sig": {s.signature(path, expiry)}, "sp": {"r"}, "spr": {"https"}, "sr": {"b"}, "sv": {"2025-01-05"}}
	return s.otherHost(r, CDNHost) + storagePrefix + path + "?" + query.Encode()
}

func (s *Server) signature(path, expiry string) string {
	s.mu.Lock()
	key := s.signing
	s.mu.Unlock()
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s\n%s", path, expiry)
	return hex.EncodeToString(mac.Sum(nil))
}

// Paths of the storage host.
const (
	storagePrefix = "/ghcr1/"
	blobPath      = "blobs/"
)

// signedBlob is a blob at the storage host.
func (x *exchange) signedBlob() {
	if !x.storageAllows(blobPath + x.ref) {
		return
	}
	if d, err := oci.ParseDigest(x.ref); err == nil {
		x.sendContent(d)
	} else {
		x.blobUnknown()
	}
}

// storageAllows tells whether the storage host gives out what is under a path, and answers
// if not. The URL is the permission; it is no registry and answers in XML.
func (x *exchange) storageAllows(path string) bool {
	q := x.server.quirks
	query := x.r.URL.Query()
	expiry, err := time.Parse(time.RFC3339Nano, query.Get("se"))
	switch {
	case q.CDNRejectsAuth != 0 && x.r.Header.Get("Authorization") != "":
		x.storageError(q.CDNRejectsAuth, "InvalidAuthenticationInfo", "Authentication information is not given in the correct format.")
	case x.r.Method == http.MethodHead && q.CDNHead != http.StatusOK:
		x.w.WriteHeader(q.CDNHead)
	case x.r.Method != http.MethodGet && x.r.Method != http.MethodHead:
		x.storageError(http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.")
	case err != nil || !hmac.Equal([]byte(query.Get("sig")), []byte(x.server.signature(path, query.Get("se")))):
		x.storageError(http.StatusForbidden, "AuthenticationFailed", "Server failed to authenticate the request.")
	case !x.server.now().Before(expiry):
		x.storageError(http.StatusForbidden, "AuthenticationFailed", "Signature not valid in the specified time frame.")
	default:
		return true
	}
	return false
}

func (x *exchange) storageError(status int, code, message string) {
	body := `<?xml version="1.0" encoding="utf-8"?><Error><Code>` + code + `</Code><Message>` + message + `</Message></Error>`
	x.w.Header().Set("Content-Type", "application/xml")
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		strings.NewReader(body).WriteTo(x.w)
	}
}
