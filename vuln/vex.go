package vuln

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/oci"
)

// suppresses tells whether a finding with this status does not count.
func (s VEXStatus) suppresses() bool { return s == VEXNotAffected || s == VEXFixed }

// applyVEX lets statements suppress or annotate findings. Of several about one
// finding a signed one counts before one that is not, then the latest; of those with
// one time, one that suppresses nothing. What was found under a verified signature is not
// taken away by a statement that has none, unless the caller gives it.
func (r *VulnerabilityReport) applyVEX(documents []VEX, t Target, opts Options) {
	statements := map[string][]vexCandidate{} // by id
	for _, doc := range documents {
		if opts.VEXSignedOnly && !doc.Signed {
			r.Warnings = append(r.Warnings, fmt.Sprintf("VEX %s is not used: no signature over it was verified", cmp.Or(doc.Document, doc.ID)))
			continue
		}
		for _, s := range doc.Statements {
			if problem := s.problem(); problem != "" {
				r.Warnings = append(r.Warnings, fmt.Sprintf("VEX %s: the statement about %s is not used: %s",
					cmp.Or(doc.Document, doc.ID), strings.Join(s.IDs, ", "), problem))
				continue
			}
			at := s.Timestamp
			if at.IsZero() {
				at = doc.Timestamp
			}
			if s.Status.suppresses() && !opts.Now.IsZero() && at.Sub(opts.Now) > clocksDiffer {
				// It would override all that is said until then.
				r.Warnings = append(r.Warnings, fmt.Sprintf("VEX %s: the statement about %s is not used: it is of %s, which is yet to come",
					cmp.Or(doc.Document, doc.ID), strings.Join(s.IDs, ", "), at.Format(time.DateOnly)))
				continue
			}
			size := 0
			for _, p := range s.Products {
				size += len(p.IDs) * (1 + len(p.Subcomponents))
			}
			for _, id := range s.IDs {
				id = strings.ToUpper(id)
				statements[id] = append(statements[id], vexCandidate{doc, s, at, size})
			}
		}
	}
	var kept []Vulnerability
	budget := maxComparisons
	refused := 0
	for _, v := range r.Vulnerabilities {
		chosen := chooseStatement(statements, &v, t, &budget)
		if chosen != nil && chosen.statement.Status.suppresses() && v.Link() == LinkDigestSigned && !chosen.doc.Signed && !chosen.doc.given {
			refused++
			chosen = nil
		}
		if chosen == nil {
			kept = append(kept, v)
			continue
		}
		v.VEX = chosen.state()
		if !v.VEX.Status.suppresses() {
			kept = append(kept, v)
			continue
		}
		r.Suppressed = append(r.Suppressed, Suppressed{
			Vulnerability: v, By: SuppressedByVEX,
			Reason: cmp.Or(v.VEX.Justification, v.VEX.Statement, string(v.VEX.Status)),
			Author: v.VEX.Author, Document: v.VEX.Document,
		})
	}
	r.Vulnerabilities = kept
	if refused > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d findings of a signed scan stay, since no signature over the statements of VEX about them was verified", refused))
	}
	if budget < 0 {
		r.Warnings = append(r.Warnings, "there are too many statements of VEX about the same flaws: not all of them were applied")
	}
}

// maxComparisons bounds how many names of products are held against findings, so that a
// document with a hundred thousand statements about one id ends. What is left keeps its
// findings.
const maxComparisons = 1 << 20

type vexCandidate struct {
	doc       VEX
	statement VEXStatement
	at        time.Time
	size      int // names in it
}

func (c *vexCandidate) state() *VEXState {
	return &VEXState{
		Status: c.statement.Status, Justification: c.statement.Justification, Statement: c.statement.Text,
		Author: c.doc.Author, Document: cmp.Or(c.doc.Document, c.doc.ID), Timestamp: c.at, Signed: c.doc.Signed,
	}
}

// justifications are those of OpenVEX.
var justifications = []string{
	"component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
	"vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
}

// problem is what the OpenVEX specification finds wrong with a statement that would
// take a finding away. One that keeps it does no harm.
func (s *VEXStatement) problem() string {
	switch s.Status {
	case VEXNotAffected:
		switch {
		case s.Text != "" || slices.Contains(justifications, s.Justification):
		case s.Justification != "":
			return fmt.Sprintf("not_affected with the justification %q, which OpenVEX does not have", s.Justification)
		default:
			return "not_affected without a justification or an impact statement"
		}
	case VEXFixed, VEXAffected, VEXUnderInvestigation:
	default:
		return fmt.Sprintf("unknown status %q", s.Status)
	}
	return ""
}

func chooseStatement(statements map[string][]vexCandidate, v *Vulnerability, t Target, budget *int) *vexCandidate {
	var best *vexCandidate
	for _, id := range v.meant() {
		list := statements[strings.ToUpper(id)]
		for i := range list {
			c := &list[i]
			if *budget -= c.size; *budget < 0 {
				return nil
			}
			if (best == nil || compareStatements(c, best) > 0) &&
				slices.ContainsFunc(c.statement.Products, func(p VEXProduct) bool { return p.covers(v, t) }) {
				best = c
			}
		}
	}
	return best
}

func compareStatements(a, b *vexCandidate) int {
	truth := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(truth(a.doc.Signed), truth(b.doc.Signed)),
		a.at.Compare(b.at),
		cmp.Compare(truth(!a.statement.Status.suppresses()), truth(!b.statement.Status.suppresses())),
	)
}

// covers tells whether a finding is in the product: in the image, and there in one of
// the subcomponents if any are named; or in a package that is itself the product.
func (p VEXProduct) covers(v *Vulnerability, t Target) bool {
	matches := func(pattern string) bool { return purlMatches(pattern, v.Package.purl()) }
	for _, id := range p.IDs {
		if imageProduct(id, v, t) {
			if len(p.Subcomponents) == 0 || slices.ContainsFunc(p.Subcomponents, matches) {
				return true
			}
		} else if matches(id) && len(p.Subcomponents) == 0 {
			return true
		}
	}
	return false
}

// imageProduct tells whether a product's id is this image: its digest, its name with
// a registry, or an oci purl with one of them. A bare name could be anybody's.
func imageProduct(id string, v *Vulnerability, t Target) bool {
	if d, err := oci.ParseDigest(id); err == nil {
		return coversDigest(d, v, t)
	}
	if !strings.HasPrefix(id, "pkg:") {
		ref, err := oci.ParseRef(id)
		if err != nil || !strings.HasPrefix(id, ref.Registry) || ref.Repository() != t.Ref.Repository() {
			return false
		}
		return (ref.Reference.Digest == "" || coversDigest(ref.Reference.Digest, v, t)) &&
			(ref.Reference.Tag == "" || ref.Reference.Digest != "" || ref.Reference.Tag == t.Ref.Reference.Tag)
	}
	u, err := packageurl.FromString(id)
	if err != nil || u.Type != packageurl.TypeOCI && u.Type != packageurl.TypeDocker || !strings.EqualFold(u.Name, path.Base(t.Ref.Name)) {
		return false
	}
	qualifiers := u.Qualifiers.Map()
	repository := strings.ToLower(strings.Trim(strings.TrimPrefix(qualifiers["repository_url"], "https://"), "/"))
	if repository != "" && repository != t.Ref.Repository() && repository != path.Dir(t.Ref.Repository()) {
		return false
	}
	if tag := qualifiers["tag"]; tag != "" && u.Version == "" && tag != t.Ref.Reference.Tag {
		return false
	}
	if u.Version == "" {
		return repository != ""
	}
	d, err := oci.ParseDigest(u.Version)
	if err != nil {
		return repository != "" && u.Version == t.Ref.Reference.Tag
	}
	return coversDigest(d, v, t)
}

// coversDigest tells whether what is said of a digest holds for the finding: the digest
// is that of all that was asked about, or of the one platform that has the finding.
func coversDigest(d oci.Digest, v *Vulnerability, t Target) bool {
	if d == t.Digest || d == t.Parent {
		return true
	}
	if !slices.Contains(t.Digests(), d) {
		return false
	}
	return !slices.ContainsFunc(v.Provenance, func(p Provenance) bool { return p.Subject != d })
}
