package sigstoretest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// TUF is a repository of The Update Framework that publishes a trusted root. Its fields may be
// changed before it is served; what is served is signed then.
type TUF struct {
	Target  string // name of what is published, "trusted_root.json"
	Content []byte
	Version int       // of all its metadata but the root's, which has 1
	Expires time.Time // of all its metadata
	Signer  *TUF
	// Served is sent in place of the content that was signed.
	Served []byte

	key ed25519.PrivateKey
}

// NewTUF makes one that has content.
func NewTUF(content []byte, expires time.Time) *TUF {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return &TUF{Target: "trusted_root.json", Content: content, Version: 1, Expires: expires, key: key}
}

func (r *TUF) public() (id string, key object) {
	key = object{"keytype": "ed25519", "scheme": "ed25519", "keyval": object{"public": hex.EncodeToString(r.key.Public().(ed25519.PublicKey))}}
	sum := sha256.Sum256(must(json.Marshal(key)))
	return hex.EncodeToString(sum[:]), key
}

// signed is a file of metadata. json.Marshal of a map is canonical JSON for what is
// in it.
func (r *TUF) signed(kind string, version int, fields object) []byte {
	fields["_type"], fields["spec_version"], fields["version"], fields["expires"] = kind, "1.0.31", version, r.Expires.UTC().Format(time.RFC3339)
	id, _ := r.public()
	key := r.key
	if r.Signer != nil && kind != "root" {
		key = r.Signer.key
	}
	sig := hex.EncodeToString(ed25519.Sign(key, must(json.Marshal(fields))))
	return must(json.Marshal(object{"signed": fields, "signatures": []object{{"keyid": id, "sig": sig}}}))
}

// Root is the metadata that everything else is proved from. It does not expire.
func (r *TUF) Root() []byte {
	id, key := r.public()
	roles := object{}
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		roles[role] = object{"keyids": []string{id}, "threshold": 1}
	}
	lasting := *r
	lasting.Expires = time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
	return lasting.signed("root", 1, object{"consistent_snapshot": true, "keys": object{id: key}, "roles": roles})
}

func metaOf(data []byte, version int) object {
	sum := sha256.Sum256(data)
	return object{"version": version, "length": len(data), "hashes": object{"sha256": hex.EncodeToString(sum[:])}}
}

// ServeHTTP serves the repository.
func (r *TUF) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	content := metaOf(r.Content, 0)
	delete(content, "version")
	targets := r.signed("targets", r.Version, object{"targets": object{r.Target: content}})
	snapshot := r.signed("snapshot", r.Version, object{"meta": object{"targets.json": metaOf(targets, r.Version)}})
	timestamp := r.signed("timestamp", r.Version, object{"meta": object{"snapshot.json": metaOf(snapshot, r.Version)}})
	sum := sha256.Sum256(r.Content)
	served := r.Content
	if r.Served != nil {
		served = r.Served
	}
	data, ok := map[string][]byte{
		"/1.root.json":    r.Root(),
		"/timestamp.json": timestamp,
		fmt.Sprintf("/%d.snapshot.json", r.Version):  snapshot,
		fmt.Sprintf("/%d.targets.json", r.Version):   targets,
		fmt.Sprintf("/targets/%x.%s", sum, r.Target): served,
	}[req.URL.Path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Write(data)
}
