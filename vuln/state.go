package vuln

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// isScan tells whether somebody looked at the image. A list of flaws in the
// repository it is built from, or in the packages of an SBOM, is none, and neither is
// a report of a tool that is not known to look at images, unless the caller says so.
func (s *Scan) isScan() bool {
	return (!s.unsure || s.Source == SourceFile) && cmp.Or(s.Method, MethodScan) == MethodScan && s.Link.rank() > LinkRepository.rank()
}

// covers tells whether the scan is of a platform of the target. A scanner looks at one
// image: of an index it says nothing unless it says at which of its images, and of this image
// nothing if it names others alone.
func (s *Scan) covers(p PlatformImage, t Target) bool {
	switch {
	case s.elsewhere:
		return false
	case s.Subject == p.Digest:
		return true
	case s.vague(t):
		return false
	}
	return !s.Link.byDigest() || s.Subject == t.Digest || t.Parent != "" && s.Subject == t.Parent
}

// vague tells whether the scan is of one of several platforms, and does not say which.
func (s *Scan) vague(t Target) bool {
	return s.single && len(t.Platforms)+len(t.Others) > 1 &&
		!slices.ContainsFunc(t.Platforms, func(p PlatformImage) bool { return s.Subject == p.Digest })
}

// setState says how much the report means. With a scan that names the image's digest
// it is complete if the places for such scans were read without harm; without one, if
// all sources were. A platform that no scan is of is a gap,
// and so is a scan by name that is older than the image.
func (r *VulnerabilityReport) setState(scans []Scan, t Target) {
	scans = slices.DeleteFunc(slices.Clone(scans), func(s Scan) bool { return !s.isScan() })
	digest := slices.ContainsFunc(scans, func(s Scan) bool { return s.Link.byDigest() })
	var partial, current bool
	var vague []string
	for _, s := range scans {
		partial = partial || s.Partial
		// When it was pushed may not be known: then a scan by its name may be of an older one.
		current = current || s.Link.byDigest() || t.Pushed.IsZero() && s.Source == SourceFile || !t.Pushed.IsZero() && s.ScannedAt.After(t.Pushed)
		if !s.ScannedAt.IsZero() && (r.ScannedAt == nil || s.ScannedAt.After(*r.ScannedAt)) {
			r.ScannedAt = new(s.ScannedAt.UTC())
		}
		if s.vague(t) {
			vague = addUnique(vague, cmp.Or(s.Tool, "a scanner"))
		}
	}
	if len(scans) == 0 {
		r.State = StateUnavailable
		return
	}
	r.State = StateComplete
	switch {
	case !current && t.Pushed.IsZero():
		r.Warnings = append(r.Warnings, "when the image was pushed is not known: a scan that does not name its digest may be of an older one")
	case !current:
		r.Warnings = append(r.Warnings, "the image is newer than its newest scan, which does not name its digest")
	}
	if partial || !current {
		r.State = StatePartial
	}
	for _, source := range r.Sources {
		// Code scanning and Dependabot know an image by its name only.
		decides := !digest || source.Name != SourceCodeScanning && source.Name != SourceDependabot
		if decides && source.Status.Harms() {
			r.State = StatePartial
		}
	}
	platforms := t.Platforms
	if len(platforms) == 0 {
		platforms = []PlatformImage{{Digest: t.Digest}}
	}
	for _, p := range platforms {
		scan, scanned := PlatformScan{Platform: platformName(p.Platform), Digest: p.Digest}, false
		for _, s := range scans {
			if s.covers(p, t) && (s.Link.byDigest() || !digest) {
				scanned = true
				if s.ScannedAt.After(scan.ScannedAt) {
					scan.ScannedAt = s.ScannedAt.UTC()
				}
			}
		}
		if scanned {
			r.PlatformScans = append(r.PlatformScans, scan)
		} else {
			r.Unscanned = append(r.Unscanned, scan.name())
			r.State = StatePartial
		}
	}
	if len(r.Unscanned) > 0 && len(vague) > 0 {
		r.Warnings = append(r.Warnings, strings.Join(vague, " and ")+" looked at one of the images of the index and does not say which")
	}
}

// newest drops each scan that a later one of the same tool replaces. One that is tied
// to the image less surely replaces none, so that nobody hides findings with a
// clean document that is not signed; one that does not have everything replaces none
// either; and one without a time neither replaces nor is replaced.
func newest(scans []Scan) []Scan {
	type series struct {
		tool, category, ref string
		subject             oci.Digest
		method              Method
	}
	of := func(s Scan) series {
		return series{strings.ToLower(s.Tool), s.Category, s.Ref, s.Subject, cmp.Or(s.Method, MethodScan)}
	}
	latest := map[series][6]time.Time{} // by the rank of the link, or a surer one
	for _, s := range scans {
		if s.Partial {
			continue
		}
		times := latest[of(s)]
		for rank := range s.Link.rank() + 1 {
			if s.ScannedAt.After(times[rank]) {
				times[rank] = s.ScannedAt
			}
		}
		latest[of(s)] = times
	}
	return slices.DeleteFunc(slices.Clone(scans), func(s Scan) bool {
		return s.Tool != "" && !s.ScannedAt.IsZero() && latest[of(s)][s.Link.rank()].After(s.ScannedAt)
	})
}

// finish sorts and counts.
func (r *VulnerabilityReport) finish() {
	for i := range r.Vulnerabilities {
		summarize(&r.Vulnerabilities[i])
	}
	for i := range r.Suppressed {
		summarize(&r.Suppressed[i].Vulnerability)
	}
	slices.SortFunc(r.Vulnerabilities, compareVulnerabilities)
	slices.SortFunc(r.Suppressed, func(a, b Suppressed) int {
		return cmp.Or(compareVulnerabilities(a.Vulnerability, b.Vulnerability), cmp.Compare(a.By, b.By), cmp.Compare(a.Reason, b.Reason))
	})
	if !r.Scanned() {
		return
	}
	if r.Vulnerabilities == nil {
		r.Vulnerabilities = []Vulnerability{}
	}
	r.Counts = countsOf(r.Vulnerabilities)
	r.Counts.Suppressed = len(r.Suppressed)
}

// countsOf counts the findings that are about the image.
func countsOf(list []Vulnerability) *Counts {
	c := &Counts{}
	for _, v := range list {
		if v.Link() == LinkRepository {
			continue
		}
		*c.of(v.Severity)++
		if v.FixState == FixFixed {
			c.Fixable++
		}
		if v.KEV {
			c.KEV++
		}
	}
	return c
}

// compareVulnerabilities puts the worst first, and of equals the one with a fix.
func compareVulnerabilities(a, b Vulnerability) int {
	fixed := func(v Vulnerability) int {
		if v.FixState == FixFixed {
			return 1
		}
		return 0
	}
	return cmp.Or(
		b.Severity.Compare(a.Severity),
		cmp.Compare(b.Score(), a.Score()),
		cmp.Compare(fixed(b), fixed(a)),
		cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Package.label(), b.Package.label()),
		cmp.Compare(a.Package.purl(), b.Package.purl()),
	)
}

// CompareRisk puts first what is exploited, then what is most likely to be weighed by how
// bad it is, then what is worst. It is for sorting.
func CompareRisk(a, b Vulnerability) int {
	risk := func(v Vulnerability) (known int, likely float64) {
		if v.KEV {
			known = 1
		}
		if v.EPSS != nil {
			likely = v.EPSS.Score * cmp.Or(v.Score(), float64(2*v.Severity.rank()))
		}
		return known, likely
	}
	knownA, likelyA := risk(a)
	knownB, likelyB := risk(b)
	return cmp.Or(cmp.Compare(knownB, knownA), cmp.Compare(likelyB, likelyA), compareVulnerabilities(a, b))
}

// summarize makes a summary where no source has one: the first line of the description,
// or what is known.
func summarize(v *Vulnerability) {
	if v.Summary != "" {
		return
	}
	line, _, _ := strings.Cut(strings.TrimSpace(v.Description), "\n")
	if line = strings.Trim(line, "# "); len(line) > 120 {
		line = strings.ToValidUTF8(line[:120], "") + "…"
	}
	switch {
	case line != "":
		v.Summary = line
	case v.Package != nil:
		v.Summary = v.ID + " in " + v.Package.Name
	default:
		v.Summary = v.ID
	}
}
