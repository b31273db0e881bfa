package sigstoretest

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// Signing says how something is signed. [Good] is as it should be; a test breaks one
// thing of it.
type Signing struct {
	Subject, Issuer, Repository string    // that the certificate names
	At                          time.Time // from when on the certificate is valid, for ten minutes
	Unlogged                    bool      // no proof that the certificate was logged
	Logged                      time.Time // when the signature was logged; zero is never
	Stamped                     time.Time // when it was stamped; zero is never
	// Altered is put in the place of what was signed.
	Altered []byte
	// Logs and Stamper are instances that log and stamp it, if others.
	Logs, Stamper *Instance
	// Key signs, if not the certificate's.
	Key *ecdsa.PrivateKey
}

// What [Good] certificates name.
const (
	Workflow      = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
	GitHubActions = "https://token.actions.githubusercontent.com"
	Repository    = "https://github.com/acme/app"
)

// Good is a signature by a workflow of GitHub Actions, logged a minute after its
// certificate was issued.
func Good() Signing {
	return Signing{Subject: Workflow, Issuer: GitHubActions, Repository: Repository, At: Epoch, Logged: Epoch.Add(time.Minute)}
}

// Form is how a signature is kept.
type Form string

// The forms: bundles of a statement in each version, a bundle that signs the bytes of
// an image, and the layers of the tags that cosign 2 writes.
const (
	Bundle01 Form = "bundle 0.1"
	Bundle02 Form = "bundle 0.2"
	Bundle03 Form = "bundle 0.3"
	Message  Form = "message"
	SigTag   Form = "sig"
	AttTag   Form = "att"
)

// Forms are all of them.
var Forms = []Form{Bundle01, Bundle02, Bundle03, Message, SigTag, AttTag}

const inToto = "application/vnd.in-toto+json"

// MediaType returns the media type of a layer of this form.
func (f Form) MediaType() string {
	switch f {
	case Bundle01, Bundle02:
		return "application/vnd.dev.sigstore.bundle+json;version=" + strings.TrimPrefix(string(f), "bundle ")
	case SigTag:
		return "application/vnd.dev.cosign.simplesigning.v1+json"
	case AttTag:
		return "application/vnd.dsse.envelope.v1+json"
	}
	return "application/vnd.dev.sigstore.bundle.v0.3+json"
}

// Sign signs content, which is a statement, or for [Message] a manifest and for
// [SigTag] the payload of a simple signature. It returns the document to keep, and the
// annotations of its layer.
func (i *Instance) Sign(form Form, content []byte, s Signing) (document []byte, annotations map[string]string) {
	cert := i.certificate(s)
	key, logs, stamper, kept := cert.key, i, i, content
	if s.Key != nil {
		key = s.Key
	}
	if s.Logs != nil {
		logs = s.Logs
	}
	if s.Stamper != nil {
		stamper = s.Stamper
	}
	if s.Altered != nil {
		kept = s.Altered
	}
	enveloped := form != Message && form != SigTag
	message := content
	if enveloped {
		message = fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inToto), inToto, len(content), content)
	}
	sig := Sign(key, message)
	envelope := func(payload []byte) object {
		return object{"payloadType": inToto, "payload": payload, "signatures": []object{{"sig": sig}}}
	}
	kind, body := "hashedrekord", messageEntry(cert.cert, message, sig)
	if enveloped {
		kind, body = "dsse", envelopeEntry(cert.cert, must(json.Marshal(envelope(content))), content, sig)
	}
	if form == SigTag || form == AttTag {
		notes := map[string]string{
			"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig),
			"dev.sigstore.cosign/certificate":    string(encodePEM(cert.cert)),
		}
		if !s.Logged.IsZero() {
			notes["dev.sigstore.cosign/bundle"] = string(must(json.Marshal(object{
				"SignedEntryTimestamp": logs.promise(body, s.Logged),
				"Payload":              object{"body": body, "integratedTime": s.Logged.Unix(), "logIndex": logIndex, "logID": hex.EncodeToString(keyID(logs.rekor))},
			})))
		}
		if !s.Stamped.IsZero() {
			notes["dev.sigstore.cosign/rfc3161timestamp"] = string(must(json.Marshal(object{"SignedRFC3161Timestamp": stamper.stamp(sig, s.Stamped)})))
		}
		if enveloped {
			return must(json.Marshal(envelope(kept))), notes
		}
		return kept, notes
	}
	material := object{"certificate": object{"rawBytes": cert.cert.Raw}}
	if form == Bundle01 || form == Bundle02 {
		material = object{"x509CertificateChain": object{"certificates": []object{{"rawBytes": cert.cert.Raw}, {"rawBytes": i.issuer.cert.Raw}}}}
	}
	if !s.Logged.IsZero() {
		material["tlogEntries"] = []object{logs.entry(kind, body, s.Logged)}
	}
	if !s.Stamped.IsZero() {
		material["timestampVerificationData"] = object{"rfc3161Timestamps": []object{{"signedTimestamp": stamper.stamp(sig, s.Stamped)}}}
	}
	b := object{"mediaType": form.MediaType(), "verificationMaterial": material}
	if enveloped {
		b["dsseEnvelope"] = envelope(kept)
	} else {
		sum := sha256.Sum256(content)
		b["messageSignature"] = object{"messageDigest": object{"algorithm": "SHA2_256", "digest": sum[:]}, "signature": sig}
	}
	return must(json.Marshal(b)), nil
}

func encodePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func hashOf(data []byte) object {
	sum := sha256.Sum256(data)
	return object{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}
}

// envelopeEntry is what the log has of a signed envelope, in canonical form.
func envelopeEntry(cert *x509.Certificate, envelope, payload, sig []byte) []byte {
	return must(json.Marshal(object{"apiVersion": "0.0.1", "kind": "dsse", "spec": object{
		"envelopeHash": hashOf(envelope), "payloadHash": hashOf(payload),
		"signatures": []object{{"signature": base64.StdEncoding.EncodeToString(sig), "verifier": encodePEM(cert)}},
	}}))
}

// messageEntry is what the log has of a signed message.
func messageEntry(cert *x509.Certificate, message, sig []byte) []byte {
	return must(json.Marshal(object{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": object{
		"data": object{"hash": hashOf(message)}, "signature": object{"content": sig, "publicKey": object{"content": encodePEM(cert)}},
	}}))
}
