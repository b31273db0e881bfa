package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Keys is a [Verifier] that trusts public keys, any one of which suffices. It needs
// no network and no trusted root. It does not ask for an entry in a log: who has
// the key is trusted with the time, too. A certificate beside a signature is not
// looked at.
//
// Make one with [ParseKeys] or [NewKeys]; the zero value trusts nobody. It is
// safe for concurrent use.
type Keys struct {
	keys []publicKey
}

type publicKey struct {
	key  crypto.PublicKey
	hash [sha256.Size]byte // of its DER form
}

// minRSABits is the smallest RSA modulus that is taken.
const minRSABits = 2048

// ParseKeys reads every public key of a text in PEM, as "cosign generate-key-pair" and
// openssl write them.
//
// Errors: [oci.ErrInvalid] if there is none, or one that is malformed, a private key,
// or of a kind that is not understood.
func ParseKeys(text []byte) (*Keys, error) {
	var keys []crypto.PublicKey
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		var key crypto.PublicKey
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		default:
			return nil, oci.Invalid("public key: the PEM block is a %q; a PUBLIC KEY is wanted", block.Type)
		}
		if err != nil {
			return nil, oci.Invalid("public key: %w", err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, oci.Invalid("public key: there is no PEM block in it")
	}
	return NewKeys(keys...)
}

// NewKeys trusts these keys: ECDSA on P-256, P-384 or P-521, RSA of 2048 bits or
// more, Ed25519.
//
// Errors: [oci.ErrInvalid] for any other, or none.
func NewKeys(keys ...crypto.PublicKey) (*Keys, error) {
	if len(keys) == 0 {
		return nil, oci.Invalid("public key: none is given")
	}
	k := &Keys{}
	for _, key := range keys {
		switch key := key.(type) {
		case *ecdsa.PublicKey:
			if !slices.Contains([]int{256, 384, 521}, key.Curve.Params().BitSize) {
				return nil, oci.Invalid("public key: the curve %s is not supported", key.Curve.Params().Name)
			}
		case *rsa.PublicKey:
			if key.N.BitLen() < minRSABits {
				return nil, oci.Invalid("public key: RSA of %d bits is too weak; %d are wanted", key.N.BitLen(), minRSABits)
			}
		case ed25519.PublicKey:
		default:
			return nil, oci.Invalid("public key: %T is not supported", key)
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, oci.Invalid("public key: %w", err)
		}
		k.keys = append(k.keys, publicKey{key, sha256.Sum256(der)})
	}
	return k, nil
}

// Verify checks that one of the signatures is by one of the keys, and that the
// document is about the manifest that it is attached to.
//
// Errors: [ErrNoSignature], [ErrBadSignature], [ErrWrongKey], [ErrWrongSubject],
// [ErrUnsupported].
func (k *Keys) Verify(_ context.Context, d *Document) (*Signer, error) {
	if d.Attachment.Layout == LayoutNotation {
		return nil, fmt.Errorf("%w: Notary Project", ErrUnsupported)
	}
	if len(d.Signatures) == 0 {
		return nil, ErrNoSignature
	}
	if d.message == nil {
		return nil, fmt.Errorf("%w: it signs the bytes of the image, which were not read", ErrUnsupported)
	}
	m := &message{raw: d.message, sums: map[crypto.Hash][]byte{}}
	for _, s := range d.Signatures {
		for _, key := range k.keys {
			if !m.fits(key.key, s.Bytes) {
				continue
			}
			if err := d.About(); err != nil {
				return nil, err
			}
			return &Signer{Key: "sha256:" + hex.EncodeToString(key.hash[:])}, nil
		}
	}
	if d.certified {
		return nil, fmt.Errorf("%w: with that of a certificate, not one of the public keys given", ErrWrongKey)
	}
	for _, hint := range d.keyHints() {
		if hash, ok := keyHash(hint); ok && !slices.ContainsFunc(k.keys, func(p publicKey) bool { return bytes.Equal(p.hash[:], hash) }) {
			return nil, fmt.Errorf("%w: it names the key %x", ErrWrongKey, hash)
		}
	}
	return nil, ErrBadSignature
}

// keyHints are the names of keys in the document. They are not trusted: they tell
// one failure from another.
func (d *Document) keyHints() []string {
	var hints []string
	if d.bundle != nil && d.bundle.Material.PublicKey != nil {
		hints = append(hints, d.bundle.Material.PublicKey.Hint)
	}
	for _, s := range d.Signatures {
		hints = append(hints, s.KeyID)
	}
	return hints
}

// keyHash reads a hint that is the SHA-256 of a key, in base64 or hexadecimal. Other
// hints, such as the name of a key in a cloud, say nothing.
func keyHash(hint string) ([]byte, bool) {
	for _, decode := range []func(string) ([]byte, error){base64.StdEncoding.DecodeString, hex.DecodeString} {
		if hash, err := decode(hint); err == nil && len(hash) == sha256.Size {
			return hash, true
		}
	}
	return nil, false
}

// message is what is signed. It is hashed once, however many signatures and keys there
// are.
type message struct {
	raw  []byte
	sums map[crypto.Hash][]byte
}

func (m *message) sum(h crypto.Hash) []byte {
	if m.sums[h] == nil {
		m.sums[h] = sum(h, m.raw)
	}
	return m.sums[h]
}

// fits tells whether a signature is one of the message by the key. The scheme is
// nowhere written down: it follows from the key, and where writers differ, each is
// tried.
func (m *message) fits(key crypto.PublicKey, sig []byte) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		// Older clients sign with SHA-256 whatever the curve.
		hashes := []crypto.Hash{crypto.SHA256}
		switch key.Curve.Params().BitSize {
		case 384:
			hashes = []crypto.Hash{crypto.SHA384, crypto.SHA256}
		case 521:
			hashes = []crypto.Hash{crypto.SHA512, crypto.SHA256}
		}
		return slices.ContainsFunc(hashes, func(h crypto.Hash) bool {
			return ecdsa.VerifyASN1(key, m.sum(h), sig)
		})
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, m.sum(crypto.SHA256), sig) == nil
	case ed25519.PublicKey:
		// Rekor's hashed entries need the variant that signs a hash; envelopes use the plain
		// one.
		return ed25519.Verify(key, m.raw, sig) ||
			ed25519.VerifyWithOptions(key, m.sum(crypto.SHA512), sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}

func sum(h crypto.Hash, message []byte) []byte {
	switch h {
	case crypto.SHA384:
		hash := sha512.Sum384(message)
		return hash[:]
	case crypto.SHA512:
		hash := sha512.Sum512(message)
		return hash[:]
	}
	hash := sha256.Sum256(message)
	return hash[:]
}

// digestNames are the names of hashes in a bundle.
var digestNames = map[string]crypto.Hash{"SHA2_256": crypto.SHA256, "SHA2_384": crypto.SHA384, "SHA2_512": crypto.SHA512}
