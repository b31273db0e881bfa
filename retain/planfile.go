package retain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

var (
	// ErrExpired says that a plan is too old to be carried out. Make it anew.
	ErrExpired = errors.New("the plan has expired")
	// ErrRefused says that a rail of the policy stopped a plan.
	ErrRefused = errors.New("the plan goes beyond a limit of its policy")
)

// maxPlanFile is the size in bytes of the largest file of plans that is read.
const maxPlanFile = 256 << 20

// plansSchema is the format of files of plans.
const plansSchema = "ghcr-plans/1"

// planFile is what such a file holds.
type planFile struct {
	Schema string  `json:"schema"`
	Plans  []*Plan `json:"plans"`
}

// Seal sets the plan's digest, after what it covers was changed: the sha256 of its JSON,
// as encoding/json writes it, without the digest.
//
// Errors: one for a time that JSON can't hold.
func (p *Plan) Seal() error {
	d, err := p.digest()
	p.Digest = d
	return err
}

func (p *Plan) digest() (oci.Digest, error) {
	bare := *p
	bare.Digest = ""
	data, err := json.Marshal(&bare)
	return bytesDigest(data), err
}

// Verify checks that a plan is as it was made, is not too old, and was made for the
// package of this inventory: by host, owner and name, and by their numbers where both
// are known, since a name can come to mean another package. A nil inventory leaves
// that out.
//
// Errors: [oci.ErrIntegrity] for a plan that was changed, [ErrExpired],
// [oci.ErrInvalid] for another schema or another package.
func (p *Plan) Verify(now time.Time, of *Inventory) error {
	if p.Schema != PlanSchema {
		return oci.Invalid("the plan has the schema %q, and this version reads %q", p.Schema, PlanSchema)
	}
	d, err := p.digest()
	if err != nil {
		return err
	}
	if d != p.Digest {
		return &oci.IntegrityError{What: "the plan", Want: p.Digest, Got: d}
	}
	if of != nil {
		differ := func(a, b int64) bool { return a != 0 && b != 0 && a != b }
		if p.Host != of.Host || !strings.EqualFold(p.Owner, of.Owner) || p.Package != of.Package {
			return oci.Invalid("the plan is for %s/%s/%s, and not for %s/%s/%s", p.Host, p.Owner, p.Package, of.Host, of.Owner, of.Package)
		}
		if differ(p.OwnerID, of.OwnerID) || differ(p.PackageID, of.PackageID) {
			return oci.Invalid("the plan is for another package of the name %s/%s: that one is gone", p.Owner, p.Package)
		}
	}
	if !now.Before(p.Expires) {
		return fmt.Errorf("%w: it was good until %s; make it anew", ErrExpired, p.Expires.Format(time.RFC3339))
	}
	return nil
}

// Err says why the plan may not be carried out as far as its policy goes, or nil.
//
// Errors: [ErrRefused].
func (p *Plan) Err() error {
	if len(p.Refused) == 0 {
		return nil
	}
	texts := make([]string, len(p.Refused))
	for i, r := range p.Refused {
		texts[i] = r.Rail + ": " + r.Text
	}
	return fmt.Errorf("%w: %s", ErrRefused, strings.Join(texts, "; "))
}

// WritePlans writes plans, one for each package, as [ReadPlans] reads them.
//
// Errors: those of w.
func WritePlans(w io.Writer, plans ...*Plan) error {
	data, err := json.Marshal(planFile{plansSchema, plans})
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	return err
}

// ReadPlans reads what [WritePlans] wrote. Whitespace may have been added; anything
// else that was changed, and a name that a plan does not have, is an error. It checks
// each plan's digest; [Plan.Verify] tells whether one is still good, and for what.
//
// Errors: [oci.ErrInvalid] for what is no file of plans, [oci.ErrIntegrity] for a plan
// that was changed, and those of r.
func ReadPlans(r io.Reader) ([]*Plan, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPlanFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPlanFile {
		return nil, oci.Invalid("the file of plans is larger than %d bytes", maxPlanFile)
	}
	var f planFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, oci.Invalid("this is no file of plans: %w", err)
	}
	if f.Schema != plansSchema {
		return nil, oci.Invalid("the file of plans has the schema %q, and this version reads %q", f.Schema, plansSchema)
	}
	// Go reads keys in any case, and the last of two. The canonical form tells.
	var plain bytes.Buffer
	want, err := json.Marshal(f)
	if err != nil || json.Compact(&plain, data) != nil || !bytes.Equal(plain.Bytes(), want) {
		return nil, oci.Invalid("the file of plans is not as it was written: make the plan anew")
	}
	for _, p := range f.Plans {
		if err := p.check(); err != nil {
			return nil, err
		}
	}
	return f.Plans, nil
}

// PlansDigest stands for several plans, whatever their order: what an approval names.
// For one plan it is that plan's digest.
func PlansDigest(plans ...*Plan) oci.Digest {
	if len(plans) == 1 {
		return plans[0].Digest
	}
	var lines []string
	for _, p := range plans {
		lines = append(lines, p.Digest.String())
	}
	slices.Sort(lines)
	return bytesDigest([]byte(strings.Join(lines, "\n")))
}

// check tells a plan that was made from one that was made up.
func (p *Plan) check() error {
	if p == nil {
		return oci.Invalid("the file of plans has none where one should be")
	}
	d, err := p.digest()
	if err != nil {
		return oci.Invalid("plan for %s/%s: %w", p.Owner, p.Package, err)
	}
	if d != p.Digest {
		return &oci.IntegrityError{What: "the plan for " + p.Owner + "/" + p.Package, Want: p.Digest, Got: d}
	}
	if p.Schema != PlanSchema {
		return oci.Invalid("the plan has the schema %q, and this version reads %q", p.Schema, PlanSchema)
	}
	seen := map[int64]bool{}
	for _, a := range p.Actions {
		if seen[a.Version] {
			return oci.Invalid("plan for %s/%s: version %d comes twice", p.Owner, p.Package, a.Version)
		}
		seen[a.Version] = true
		if err := a.check(); err != nil {
			return oci.Invalid("plan for %s/%s: version %d: %w", p.Owner, p.Package, a.Version, err)
		}
	}
	return nil
}

func (a *Action) check() error {
	if _, err := oci.ParseDigest(a.Digest.String()); err != nil {
		return err
	}
	switch {
	case a.Version <= 0:
		return oci.Invalid("it has no number")
	case a.Do == Delete && len(a.Off) == 0 && a.On == "":
		return nil
	case a.Do == Untag && a.On == "" && len(a.Off) > 0:
		for _, tag := range a.Off {
			if !slices.Contains(a.Tags, tag) {
				return oci.Invalid("it does not have the tag %q that is to be taken off", tag)
			}
		}
		return nil
	case a.Do == Retag && len(a.Off) == 0:
		return oci.CheckTag(a.On)
	}
	return oci.Invalid("there is no such action as %q with these tags", a.Do)
}
