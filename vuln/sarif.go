package vuln

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
)

// The parts of SARIF 2.1.0 that scanners of images use, for reading and for writing.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		AutomationDetails *sarifAutomation  `json:"automationDetails,omitempty"`
		Invocations       []sarifInvocation `json:"invocations,omitempty"`
		VersionControl    []sarifVersion    `json:"versionControlProvenance,omitempty"`
		Results           []sarifResult     `json:"results"`
		Properties        *sarifImage       `json:"properties,omitempty"`
	}
	sarifDriver struct {
		Name            string      `json:"name"`
		Version         string      `json:"version,omitempty"`
		SemanticVersion string      `json:"semanticVersion,omitempty"`
		InformationURI  string      `json:"informationUri,omitempty"`
		Rules           []sarifRule `json:"rules"`
	}
	sarifAutomation struct {
		ID string `json:"id"`
	}
	sarifInvocation struct {
		End     string `json:"endTimeUtc,omitempty"`
		Success *bool  `json:"executionSuccessful,omitempty"`

		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifVersion struct {
		Repository string `json:"repositoryUri"`
		Revision   string `json:"revisionId,omitempty"`
		Branch     string `json:"branch,omitempty"`
	}
	sarifImage struct {
		ImageName   string   `json:"imageName,omitempty"`
		RepoTags    []string `json:"repoTags,omitempty"`
		RepoDigests []string `json:"repoDigests,omitempty"`
		ImageID     string   `json:"imageID,omitempty"`
		State       State    `json:"state,omitempty"` // in our own
		LeftOut     *LeftOut `json:"leftOut,omitempty"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifRule struct {
		ID         string     `json:"id"`
		Name       string     `json:"name,omitempty"`
		Short      *sarifText `json:"shortDescription,omitempty"`
		Full       *sarifText `json:"fullDescription,omitempty"`
		HelpURI    string     `json:"helpUri,omitempty"`
		Help       *sarifText `json:"help,omitempty"`
		Default    *sarifRank `json:"defaultConfiguration,omitempty"`
		Properties sarifProps `json:"properties"`
	}
	sarifRank struct {
		Level string `json:"level"`
	}
	sarifProps struct {
		Tags             []string `json:"tags,omitempty"`
		Precision        string   `json:"precision,omitempty"`
		SecuritySeverity string   `json:"security-severity,omitempty"`
		PURLs            []string `json:"purls,omitempty"`
		CVSS2            string   `json:"cvssv2_vector,omitempty"`
		CVSS3            string   `json:"cvssv3_vector,omitempty"`
		CVSS4            string   `json:"cvssv40_vector,omitempty"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level,omitempty"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations,omitempty"`
		Fingerprints map[string]string  `json:"partialFingerprints,omitempty"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Properties   *sarifFinding      `json:"properties,omitempty"`
	}
	// sarifFinding is what our own results say besides, so that they can be read back.
	sarifFinding struct {
		ID            string       `json:"vulnerability"`
		Severity      Severity     `json:"severity"`
		Aliases       []string     `json:"aliases,omitempty"`
		Package       *Package     `json:"package,omitempty"`
		FixState      FixState     `json:"fixState,omitempty"`
		FixedVersions []string     `json:"fixedVersions,omitempty"`
		KEV           bool         `json:"kev,omitempty"`
		EPSS          *EPSS        `json:"epss,omitempty"`
		Ratings       []Rating     `json:"ratings,omitempty"`
		References    []string     `json:"references,omitempty"`
		CWEs          []string     `json:"cwes,omitempty"`
		Provenance    []Provenance `json:"provenance,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status,omitempty"`
		Justification string `json:"justification,omitempty"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region *sarifRegion `json:"region,omitempty"`
		} `json:"physicalLocation"`
		Logical []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName,omitempty"`
		Name               string `json:"name,omitempty"`
		Kind               string `json:"kind,omitempty"`
	}
)

// maxRuns is how many runs GitHub takes in one file.
const maxRuns = 20

// parseSARIF reads each run as a scan. The texts of Trivy and Grype are understood; a
// result of another tool, or one that is not understood, is a finding with its message
// and severity.
func parseSARIF(text []byte) (*Document, error) {
	var file sarifLog
	if err := decode("SARIF", text, &file); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(file.Version, "2.1") {
		return nil, oci.Invalid("SARIF: version %q is not understood", file.Version)
	}
	switch n := len(file.Runs); {
	case n == 0:
		return nil, oci.Invalid("SARIF: there are no runs in it, so nothing was scanned")
	case n > maxRuns:
		return nil, fmt.Errorf("%w: SARIF with %d runs; the limit is %d", ErrTooLarge, n, maxRuns)
	}
	doc := &Document{Kind: KindScan}
	for _, run := range file.Runs {
		scan, err := run.scan()
		if err != nil {
			return nil, err
		}
		doc.Scans = append(doc.Scans, scan)
	}
	return doc, nil
}

func (run *sarifRun) scan() (Scan, error) {
	driver := run.Tool.Driver
	if run.Results == nil {
		return Scan{}, oci.Invalid("SARIF: the run of %s has no list of results, which says that nothing was scanned", driver.Name)
	}
	s := Scan{Tool: strings.ToLower(driver.Name), ToolVersion: cmp.Or(driver.SemanticVersion, driver.Version)}
	if a := run.AutomationDetails; a != nil {
		s.Category = strings.TrimSuffix(a.ID, "/")
	}
	for _, i := range run.Invocations {
		if at := parseTime(i.End); at.After(s.ScannedAt) {
			s.ScannedAt = at
		}
		s.Partial = s.Partial || i.Success != nil && !*i.Success
	}
	for _, v := range run.VersionControl {
		if s.Commit == "" {
			s.Commit, s.Repository = v.Revision, repositoryName(v.Repository)
		}
	}
	if p := run.Properties; p != nil {
		s.Digests = digestsIn(append([]string{p.ImageID}, p.RepoDigests...))
		if p.State == StateUnavailable {
			return Scan{}, oci.Invalid("SARIF: it says that the image was not scanned")
		}
	}
	s.unsure = !scansImages(s.Tool)
	s.single = !s.unsure && s.Tool != "ghcr" // whose own may be of all platforms together
	rules := map[string]*sarifRule{}
	for i := range driver.Rules {
		rules[driver.Rules[i].ID] = &driver.Rules[i]
	}
	for _, r := range run.Results {
		rule := rules[r.RuleID]
		if rule == nil && r.RuleID == "" && r.RuleIndex >= 0 && r.RuleIndex < len(driver.Rules) {
			rule = &driver.Rules[r.RuleIndex]
		}
		f := alertText{Rule: r.RuleID, Message: r.Message.Text, Level: r.Level}
		if rule != nil {
			f.fromRule(rule)
		}
		for _, l := range r.Locations {
			f.Paths = addUnique(f.Paths, l.Physical.Artifact.URI)
		}
		v := f.finding()
		if own := r.Properties; own != nil && own.ID != "" {
			v = own.finding(v)
		}
		s.unsure = s.unsure && !vulnerabilityID().MatchString(v.ID)
		if r.suppressed() {
			s.Suppressed = append(s.Suppressed, Suppressed{Vulnerability: v, By: SuppressedByScanner, Reason: r.Suppressions[0].Justification})
			continue
		}
		s.Findings = append(s.Findings, v)
	}
	return s, nil
}

// suppressed tells whether the result does not count: it does while a suppression is
// under review, or was rejected.
func (r *sarifResult) suppressed() bool {
	return len(r.Suppressions) > 0 && !slices.ContainsFunc(r.Suppressions, func(s sarifSuppression) bool {
		return s.Status != "" && s.Status != "accepted"
	})
}

// finding reads back what we wrote. The provenance within is of the report that it was
// made of, and stays with it.
func (f *sarifFinding) finding(v Vulnerability) Vulnerability {
	v.ID, v.Severity, v.Aliases, v.Package = f.ID, f.Severity, f.Aliases, f.Package
	v.FixState, v.FixedVersions, v.FixedIn, v.KEV, v.EPSS = f.FixState, f.FixedVersions, "", f.KEV, f.EPSS
	v.Ratings, v.References, v.CWEs = f.Ratings, f.References, f.CWEs
	settle(&v)
	return v
}

// alertText is what SARIF and code-scanning alerts have in common: the texts that a
// scanner wrote.
type alertText struct {
	Rule    string
	Short   string
	Message string
	Help    string
	Level   string // of SARIF: error, warning, note
	Word    string // severity as GitHub gives it
	Score   float64
	Vectors []string
	Tags    []string
	PURLs   []string
	Paths   []string
	Link    string
}

func (a *alertText) fromRule(rule *sarifRule) {
	fill(&a.Rule, rule.ID)
	if rule.Short != nil {
		a.Short = rule.Short.Text
	}
	if rule.Full != nil {
		fill(&a.Short, rule.Full.Text)
	}
	if rule.Help != nil {
		a.Help = rule.Help.Text
	}
	if rule.Default != nil {
		fill(&a.Level, rule.Default.Level)
	}
	a.Link, a.Tags, a.PURLs = rule.HelpURI, rule.Properties.Tags, rule.Properties.PURLs
	a.Score, _ = strconv.ParseFloat(rule.Properties.SecuritySeverity, 64)
	a.Vectors = addUnique(nil, rule.Properties.CVSS4, rule.Properties.CVSS3, rule.Properties.CVSS2)
}

// vulnerabilityID is what ids of vulnerabilities look like.
var vulnerabilityID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:CVE-\d{4}-\d{4,}|GHSA(?:-[23456789cfghjmpqrvwx]{4}){3}|(?:GO|PYSEC|RUSTSEC|OSV|MAL)-\d{4}-\d+|(?:DSA|DLA|USN|ALAS2?|ELSA|RHSA|RLSA|ALSA|SUSE-SU|openSUSE-SU)-[0-9:.-]*\d|TEMP-\d+-[0-9A-F]+)`)
})

// grypeMessage is how Grype puts a finding into a sentence.
var grypeMessage = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^An? (\w+) vulnerability in (\S+) package: (.+), version (\S+) was found(?: in image \S+)? at: (.+)$`)
})

// finding makes a finding of the texts. What they lack stays empty; of a text that is not
// understood the message is kept.
func (a *alertText) finding() Vulnerability {
	facts := factsIn(a.Message)
	for key, value := range factsIn(a.Help) {
		if facts[key] == "" {
			facts[key] = value
		}
	}
	p := Package{Name: facts["package"], Version: cmp.Or(facts["installed version"], facts["version"]), Type: facts["type"]}
	word := facts["severity"]
	if m := grypeMessage().FindStringSubmatch(strings.TrimSpace(a.Message)); m != nil {
		word = cmp.Or(word, m[1])
		p.Name, p.Version = m[3], m[4]
		fill(&p.Type, m[2])
		a.Paths = addUnique(a.Paths, m[5])
	}
	for _, purl := range a.PURLs {
		if q := newPackage(Package{PURL: purl}); q != nil && (p.Name == "" || strings.EqualFold(q.Name, p.Name) && (p.Version == "" || p.Version == q.Version)) {
			p.PURL = purl
			break
		}
	}
	p.addPath(a.Paths...)
	v := Vulnerability{
		ID: a.id(facts["vulnerability"], p.Name), Summary: a.Short,
		References: addUnique(nil, markdownLink(facts["link"]), a.Link),
	}
	if p.Name == "" {
		// It is not understood. Its place is needed to tell which image it is about.
		v.Package, v.Description = &p, a.Message
	} else {
		v.Package = newPackage(p)
	}
	v.FixedVersions = splitVersions(cmp.Or(facts["fixed version"], facts["fix version"]))
	v.rate("", cmp.Or(word, a.Word), "", 0)
	for _, tag := range a.Tags {
		if word == "" && a.Word == "" && ParseSeverity(tag) != SeverityUnknown {
			v.rate("", tag, "", 0)
		}
	}
	for _, vector := range a.Vectors {
		v.rate("", "", vector, 0)
	}
	if len(a.Vectors) == 0 {
		v.rate("", "", "", a.Score)
	}
	if len(v.Ratings) == 0 && a.Level != "" {
		v.rate("", map[string]string{"error": "high", "warning": "medium", "note": "low"}[a.Level], "", 0)
	}
	settle(&v)
	return v
}

// id is the vulnerability that a rule is about. Grype appends the package's name.
func (a *alertText) id(fact, name string) string {
	if fields := strings.Fields(fact); len(fields) > 0 {
		return fields[0]
	}
	rule := a.Rule
	if name != "" {
		rule = strings.TrimSuffix(rule, "-"+name)
	}
	return cmp.Or(vulnerabilityID().FindString(rule), rule)
}

// factsIn reads lines of "Key: value", and "Vulnerability ID" without a colon, in any
// order. The first line that has a key counts.
func factsIn(text string) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, ":")
		if rest, found := strings.CutPrefix(line, "Vulnerability "); found {
			key, value, ok = "vulnerability", strings.TrimPrefix(rest, ":"), true
		}
		key = strings.ToLower(strings.TrimSpace(key))
		if _, have := facts[key]; ok && !have {
			facts[key] = strings.TrimSpace(value)
		}
	}
	return facts
}

// markdownLink is the address of "[text](address)".
func markdownLink(s string) string {
	if _, rest, ok := strings.Cut(s, "]("); ok {
		address, _, _ := strings.Cut(rest, ")")
		return address
	}
	if strings.HasPrefix(s, "http") {
		return s
	}
	return ""
}
