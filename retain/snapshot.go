package retain

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/llm-dev-ops/ghcr/oci"
)

// inventorySchema is the format of inventories in files: a line of JSON about the
// package, one for each version by number, and one with the digest of it all. Lines
// can be read and written one by one, so a large package takes no more memory than it
// does anyway.
const inventorySchema = "ghcr-inventory/1"

// maxLine is the longest line that is read: a manifest whose every byte is escaped.
const maxLine = 6*oci.MaxManifestSize + 1<<20

type inventoryHead struct {
	Schema    string    `json:"schema"`
	Host      string    `json:"host"`
	Owner     string    `json:"owner"`
	OwnerID   int64     `json:"ownerId"`
	Package   string    `json:"package"`
	PackageID int64     `json:"packageId"`
	Taken     time.Time `json:"taken"`
	Versions  int       `json:"versions"`
}

type inventoryLine struct {
	ID         int64             `json:"id"`
	Digest     oci.Digest        `json:"digest"`
	Tags       []string          `json:"tags,omitempty"`
	Created    time.Time         `json:"created,omitzero"`
	Updated    time.Time         `json:"updated,omitzero"`
	Unreadable string            `json:"unreadable,omitempty"`
	Labels     map[string]string `json:"labels,omitzero"` // an empty map says that there are none
	MediaType  string            `json:"mediaType,omitempty"`
	Manifest   string            `json:"manifest,omitempty"` // its exact bytes
	Binary     []byte            `json:"binary,omitempty"`   // the same where they are no text
}

type inventoryEnd struct {
	Digest oci.Digest `json:"digest"`
}

func (inv *Inventory) head() inventoryHead {
	return inventoryHead{inventorySchema, inv.Host, inv.Owner, inv.OwnerID, inv.Package, inv.PackageID, utc(inv.Taken), len(inv.Versions)}
}

// lines yields the versions by number, without the bytes of their manifests: the
// digest of each stands for them.
func (inv *Inventory) lines(do func(v *Version, line inventoryLine) error) error {
	order := make([]*Version, len(inv.Versions))
	for i := range inv.Versions {
		order[i] = &inv.Versions[i]
	}
	slices.SortFunc(order, func(a, b *Version) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Digest, b.Digest)) })
	for _, v := range order {
		line := inventoryLine{ID: v.ID, Digest: v.Digest, Tags: v.Tags, Created: utc(v.Created), Updated: utc(v.Updated), Unreadable: v.Unreadable, Labels: v.Labels}
		if !slices.IsSorted(line.Tags) {
			line.Tags = slices.Sorted(slices.Values(line.Tags))
		}
		if v.Manifest != nil {
			line.MediaType = v.Manifest.MediaType
		}
		if err := do(v, line); err != nil {
			return err
		}
	}
	return nil
}

// Digest stands for the whole inventory: two with the same say the same, in whatever
// order.
func (inv *Inventory) Digest() oci.Digest {
	sum := sha256.New()
	enc := json.NewEncoder(sum)
	// Neither a hash nor these types fail, but for years that no API has.
	_ = enc.Encode(inv.head())
	_ = inv.lines(func(_ *Version, line inventoryLine) error { return enc.Encode(line) })
	return sumDigest(sum)
}

func sumDigest(sum hash.Hash) oci.Digest {
	return oci.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil)))
}

func bytesDigest(data []byte) oci.Digest {
	sum := sha256.New()
	sum.Write(data)
	return sumDigest(sum)
}

// Write writes the inventory with its manifests, as [ReadInventory] reads it.
//
// Errors: [oci.ErrIntegrity] for a manifest that is not that of its version, and
// those of w.
func (inv *Inventory) Write(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(inv.head()); err != nil {
		return err
	}
	err := inv.lines(func(v *Version, line inventoryLine) error {
		if v.Manifest != nil {
			if err := v.Manifest.Verify(v.Digest); err != nil {
				return err
			}
			if raw := v.Manifest.Bytes(); utf8.Valid(raw) {
				line.Manifest = string(raw)
			} else {
				line.Binary = raw
			}
		}
		return enc.Encode(line)
	})
	if err != nil {
		return err
	}
	if err := enc.Encode(inventoryEnd{inv.Digest()}); err != nil {
		return err
	}
	return buffered.Flush()
}

// ReadInventory reads what [Inventory.Write] wrote. Every manifest is checked against
// its digest, and the whole against its own.
//
// Errors: [oci.ErrInvalid] for what is no inventory or was cut off,
// [oci.ErrIntegrity] for one that was changed, and those of r.
func ReadInventory(r io.Reader) (*Inventory, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	next := func(into any) error {
		if !lines.Scan() {
			if err := lines.Err(); err != nil && err != bufio.ErrTooLong {
				return err
			}
			return oci.Invalid("the inventory is cut off, or has a line that is too long")
		}
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(into); err != nil {
			return oci.Invalid("this is no inventory: %w", err)
		}
		if _, err := dec.Token(); err != io.EOF {
			return oci.Invalid("this is no inventory: a line goes on after its end")
		}
		return nil
	}
	var head inventoryHead
	if err := next(&head); err != nil {
		return nil, err
	}
	if head.Schema != inventorySchema {
		return nil, oci.Invalid("the inventory has the schema %q, and this version reads %q", head.Schema, inventorySchema)
	}
	inv := &Inventory{Host: head.Host, Owner: head.Owner, OwnerID: head.OwnerID, Package: head.Package, PackageID: head.PackageID, Taken: head.Taken}
	for range head.Versions {
		var line inventoryLine
		if err := next(&line); err != nil {
			return nil, err
		}
		v, err := line.version()
		if err != nil {
			return nil, fmt.Errorf("inventory, version %d: %w", line.ID, err)
		}
		inv.Versions = append(inv.Versions, v)
	}
	var end inventoryEnd
	if err := next(&end); err != nil {
		return nil, err
	}
	if lines.Scan() {
		return nil, oci.Invalid("the inventory goes on after its end")
	}
	if got := inv.Digest(); got != end.Digest {
		return nil, &oci.IntegrityError{What: "the inventory", Want: end.Digest, Got: got}
	}
	return inv, nil
}

func (line *inventoryLine) version() (Version, error) {
	v := Version{ID: line.ID, Digest: line.Digest, Tags: line.Tags, Created: line.Created, Updated: line.Updated, Unreadable: line.Unreadable, Labels: line.Labels}
	raw := line.Binary
	if line.Manifest != "" {
		raw = []byte(line.Manifest)
	}
	if line.MediaType == "" && raw == nil {
		return v, nil
	}
	if line.MediaType == "" || line.Manifest != "" && line.Binary != nil {
		return v, oci.Invalid("its manifest has no media type, or two contents")
	}
	m, err := oci.ParseManifest(line.MediaType, raw)
	if err != nil {
		return v, err
	}
	v.Manifest = m
	return v, m.Verify(v.Digest)
}
