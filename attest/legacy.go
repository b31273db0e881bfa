package attest

import (
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"
)

// Bundle returns the document as a Sigstore bundle. What cosign up to version 2 kept
// in annotations is put into one of version 0.1, so that there is one form to
// verify and to hand on. A simple signature becomes the signature of its
// payload, not of the image: whoever verifies it must look at the payload as well,
// as [Document.About] does.
//
// Errors: [ErrNoSignature]; [ErrMalformed] for annotations that can't be read;
// [ErrUnsupported] for an envelope with several signatures, which a bundle can't
// have.
func (d *Document) Bundle() ([]byte, error) {
	if d.bundle != nil {
		return d.Raw, nil
	}
	switch {
	case d.Attachment.Layout == LayoutNotation:
		return nil, fmt.Errorf("%w: Notary Project", ErrUnsupported)
	case len(d.Signatures) == 0:
		return nil, ErrNoSignature
	case len(d.Signatures) > 1:
		return nil, fmt.Errorf("%w: an envelope with %d signatures", ErrUnsupported, len(d.Signatures))
	}
	type object = map[string]any
	material := object{}
	if text := d.Attachment.Annotations[certificateNote]; text != "" {
		block, _ := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: the annotation %s holds no certificate", ErrMalformed, certificateNote)
		}
		material["x509CertificateChain"] = object{"certificates": []object{{"rawBytes": block.Bytes}}}
	} else {
		material["publicKey"] = object{"hint": d.Signatures[0].KeyID}
	}
	entry, err := d.logEntry()
	if err != nil {
		return nil, err
	}
	if entry != nil {
		material["tlogEntries"] = []object{entry}
	}
	if text := d.Attachment.Annotations[timestampNote]; text != "" {
		var stamp struct{ SignedRFC3161Timestamp []byte }
		if err := json.Unmarshal([]byte(text), &stamp); err != nil {
			return nil, fmt.Errorf("%w: the annotation %s: %w", ErrMalformed, timestampNote, err)
		}
		material["timestampVerificationData"] = object{"rfc3161Timestamps": []object{{"signedTimestamp": stamp.SignedRFC3161Timestamp}}}
	}
	out := object{"mediaType": bundleType + "+json;version=0.1", "verificationMaterial": material}
	if d.simple != nil {
		hash := sum(digestNames["SHA2_256"], d.message)
		out["messageSignature"] = object{
			"messageDigest": object{"algorithm": "SHA2_256", "digest": hash},
			"signature":     d.Signatures[0].Bytes,
		}
	} else {
		out["dsseEnvelope"] = object{
			"payload": d.Payload, "payloadType": d.PayloadType,
			"signatures": []object{{"sig": d.Signatures[0].Bytes, "keyid": d.Signatures[0].KeyID}},
		}
	}
	return json.Marshal(out)
}

// logEntry returns the entry of a transparency log that an annotation holds, as a
// bundle has it, or nil.
func (d *Document) logEntry() (map[string]any, error) {
	text := d.Attachment.Annotations[rekorNote]
	if text == "" {
		return nil, nil
	}
	var kept struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	malformed := func(err error) error {
		return fmt.Errorf("%w: the annotation %s: %w", ErrMalformed, rekorNote, err)
	}
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return nil, malformed(err)
	}
	logID, err := hex.DecodeString(kept.Payload.LogID)
	if err != nil {
		return nil, malformed(err)
	}
	var body struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(kept.Payload.Body, &body); err != nil {
		return nil, malformed(err)
	}
	return map[string]any{
		"logIndex": strconv.FormatInt(kept.Payload.LogIndex, 10), "logId": map[string]any{"keyId": logID},
		"kindVersion":       map[string]any{"kind": body.Kind, "version": body.APIVersion},
		"integratedTime":    strconv.FormatInt(kept.Payload.IntegratedTime, 10),
		"inclusionPromise":  map[string]any{"signedEntryTimestamp": kept.SignedEntryTimestamp},
		"canonicalizedBody": kept.Payload.Body,
	}, nil
}
