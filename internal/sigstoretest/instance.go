// Package sigstoretest is a Sigstore of a test's own: authorities that issue
// certificates, a log of certificates, a log of signatures and a timestamp authority,
// and signatures in each form that clients keep. It is made from the specifications and
// shares no code with the library that verifies them. It panics where it fails.
package sigstoretest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/digitorus/timestamp"
)

// Instance is one Sigstore. Make it with [New]. It is safe for concurrent use.
type Instance struct {
	name         string
	root, issuer *authority
	ct, rekor    *ecdsa.PrivateKey
	tsa          *authority
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Epoch is when everything is signed, unless a test says otherwise.
var Epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// New makes an instance whose hosts and certificates are named after name. Those of the
// same name differ in their keys.
func New(name string) *Instance {
	i := &Instance{name: name, ct: NewKey(), rekor: NewKey()}
	ca := func(cn string, parent *authority) *authority {
		return issue(&x509.Certificate{
			Subject: pkix.Name{Organization: []string{name}, CommonName: cn}, NotBefore: Epoch.AddDate(-5, 0, 0), NotAfter: Epoch.AddDate(5, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageTimeStamping},
		}, parent, NewKey())
	}
	i.root = ca("root", nil)
	i.issuer = ca("intermediate", i.root)
	stamping := must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))
	i.tsa = issue(&x509.Certificate{
		Subject: pkix.Name{Organization: []string{name}, CommonName: "tsa"}, NotBefore: Epoch.AddDate(-5, 0, 0), NotAfter: Epoch.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: stamping}},
	}, i.root, NewKey())
	return i
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var keysMade atomic.Int64

// NewKey makes a key that differs from all before. The processes of a fuzzing run make
// the same in the same order, so that what one signs another verifies.
func NewKey() *ecdsa.PrivateKey {
	seed := sha256.Sum256(fmt.Append(nil, "key ", keysMade.Add(1)))
	return must(ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:]))
}

// Sign signs a message with ECDSA and SHA-256.
func Sign(key crypto.Signer, message []byte) []byte {
	sum := sha256.Sum256(message)
	return must(key.Sign(rand.Reader, sum[:], crypto.SHA256))
}

func spki(key *ecdsa.PrivateKey) []byte { return must(x509.MarshalPKIXPublicKey(key.Public())) }

func keyID(key *ecdsa.PrivateKey) []byte {
	sum := sha256.Sum256(spki(key))
	return sum[:]
}

// issue makes a certificate; without a parent it signs itself.
func issue(template *x509.Certificate, parent *authority, key *ecdsa.PrivateKey) *authority {
	if template.SerialNumber == nil {
		template.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))
	}
	from := parent
	if from == nil {
		from = &authority{template, key}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, from.cert, key.Public(), from.key))
	return &authority{must(x509.ParseCertificate(der)), key}
}

// TrustedRoot is the instance's trusted root, in one line of JSON, with its logs or
// without, as GitHub's for private repositories.
func (i *Instance) TrustedRoot(logs bool) []byte {
	valid := object{"start": "2020-01-01T00:00:00Z"}
	log := func(key *ecdsa.PrivateKey) []object {
		return []object{{
			"baseUrl": "https://log." + i.name, "hashAlgorithm": "SHA2_256", "logId": object{"keyId": keyID(key)},
			"publicKey": object{"rawBytes": spki(key), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid},
		}}
	}
	chain := func(list ...*authority) object {
		var certs []object
		for _, a := range list {
			certs = append(certs, object{"rawBytes": a.cert.Raw})
		}
		return object{
			"subject": object{"organization": i.name, "commonName": "x"}, "uri": "https://ca." + i.name, "validFor": valid,
			"certChain": object{"certificates": certs},
		}
	}
	out := object{
		"mediaType":              "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		"certificateAuthorities": []object{chain(i.issuer, i.root)},
		"timestampAuthorities":   []object{chain(i.tsa, i.root)},
	}
	if logs {
		out["tlogs"], out["ctlogs"] = log(i.rekor), log(i.ct)
	}
	return must(json.Marshal(out))
}

type object = map[string]any

var (
	oidOldIssuer  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1} // not in DER; cosign 2 reads only this one
	oidIssuer     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	oidRepository = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 12}
	oidSCT        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
)

func (i *Instance) certificate(l Signing) *authority {
	utf8 := func(s string) []byte { return must(asn1.MarshalWithParams(s, "utf8")) }
	template := &x509.Certificate{
		SerialNumber: big.NewInt(42), NotBefore: l.At, NotAfter: l.At.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		URIs:            []*url.URL{must(url.Parse(l.Subject))},
		ExtraExtensions: []pkix.Extension{{Id: oidOldIssuer, Value: []byte(l.Issuer)}, {Id: oidIssuer, Value: utf8(l.Issuer)}, {Id: oidRepository, Value: utf8(l.Repository)}},
	}
	key := NewKey()
	without := issue(template, i.issuer, key)
	if l.Unlogged {
		return without
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{
		Id: oidSCT, Value: must(asn1.Marshal(i.certificateTimestamps(without.cert, l.At))),
	})
	return issue(template, i.issuer, key)
}

// certificateTimestamps is the list of one signed timestamp of RFC 6962 that goes into
// a certificate which is otherwise this one.
func (i *Instance) certificateTimestamps(cert *x509.Certificate, at time.Time) []byte {
	millis := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))
	issuer := sha256.Sum256(i.issuer.cert.RawSubjectPublicKeyInfo)
	tbs := cert.RawTBSCertificate
	var signed bytes.Buffer
	signed.Write([]byte{0, 0})
	signed.Write(millis)
	signed.Write([]byte{0, 1})
	signed.Write(issuer[:])
	signed.Write([]byte{byte(len(tbs) >> 16), byte(len(tbs) >> 8), byte(len(tbs))})
	signed.Write(tbs)
	signed.Write([]byte{0, 0})
	sig := Sign(i.ct, signed.Bytes())
	sct := append([]byte{0}, keyID(i.ct)...)
	sct = append(append(sct, millis...), 0, 0, 4, 3)
	sct = append(binary.BigEndian.AppendUint16(sct, uint16(len(sig))), sig...)
	list := append(binary.BigEndian.AppendUint16(nil, uint16(len(sct))), sct...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)
}

// logIndex is where in the log each entry claims to be.
const logIndex = 7

// promise is the log's signature that an entry will be in it.
func (i *Instance) promise(body []byte, at time.Time) []byte {
	return Sign(i.rekor, must(json.Marshal(object{
		"body": body, "integratedTime": at.Unix(), "logID": hex.EncodeToString(keyID(i.rekor)), "logIndex": logIndex,
	})))
}

// entry is an entry of a log as a bundle has it: the only one in its log.
func (i *Instance) entry(kind string, body []byte, at time.Time) object {
	leafHash := sha256.Sum256(append([]byte{0}, body...))
	note := fmt.Sprintf("log.%s - 1234\n1\n%s\n", i.name, base64.StdEncoding.EncodeToString(leafHash[:]))
	signature := append(keyID(i.rekor)[:4], Sign(i.rekor, []byte(note))...)
	return object{
		"logIndex": fmt.Sprint(logIndex), "logId": object{"keyId": keyID(i.rekor)}, "kindVersion": object{"kind": kind, "version": "0.0.1"},
		"integratedTime": fmt.Sprint(at.Unix()), "canonicalizedBody": body,
		"inclusionPromise": object{"signedEntryTimestamp": i.promise(body, at)},
		"inclusionProof": object{
			"logIndex": "0", "treeSize": "1", "rootHash": leafHash[:], "hashes": []string{},
			"checkpoint": object{"envelope": fmt.Sprintf("%s\n\u2014 log.%s %s\n", note, i.name, base64.StdEncoding.EncodeToString(signature))},
		},
	}
}

// stamp is a timestamp of RFC 3161.
func (i *Instance) stamp(sig []byte, at time.Time) []byte {
	sum := sha256.Sum256(sig)
	t := timestamp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Time: at, Policy: asn1.ObjectIdentifier{1, 2, 3}}
	return must(t.CreateResponseWithOpts(i.tsa.cert, i.tsa.key, crypto.SHA256))
}
