package ghcrtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// uploadRow is one upload of SARIF. Analyses and alerts are not kept: they follow from
// all uploads in their order.
type uploadRow struct {
	ID         int64      `json:"id"` // of its first run's analysis; those of the others follow
	SARIFID    string     `json:"sarifID"`
	Repository string     `json:"repository"`
	Ref        string     `json:"ref"`
	Commit     string     `json:"commit"`
	Document   oci.Digest `json:"document"`
	Created    time.Time  `json:"created"`
	Ready      time.Time  `json:"ready"` // processed
}

// judgementRow is what somebody said of an alert.
type judgementRow struct {
	Repository string    `json:"repository"`
	Number     int64     `json:"number"`
	Open       bool      `json:"open,omitempty"` // again
	Reason     string    `json:"reason,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	By         string    `json:"by,omitempty"`
	At         time.Time `json:"at"`
}

// SARIFUpload is an upload to code scanning: what a scanner found, and where it looked.
type SARIFUpload struct {
	Repository string // "owner/name"; one that is not there is made, and is public
	SARIF      []byte // not packed
	Commit     string // empty is a commit that is made up
	Ref        string // "refs/heads/main", say, which it is if it is empty
}

const someCommit = "1111111111111111111111111111111111111111"

// UploadSARIF has code scanning process an upload, at once. The alerts of a repository
// follow from all that was uploaded: one for each rule and place. An upload replaces what
// the same tool found in the same category of the same ref before, and what is no longer
// found is fixed.
//
// Errors: [oci.ErrInvalid] for a malformed name or commit, and for what code scanning does
// not take; a directory that cannot be written.
func (s *Server) UploadSARIF(u SARIFUpload) error {
	if _, wrong := parseSARIF(u.SARIF); len(wrong) > 0 {
		return oci.Invalid("upload SARIF: %s", strings.Join(wrong, "; "))
	}
	repository, err := s.seedRepository(u.Repository)
	if err != nil {
		return err
	}
	row := &uploadRow{Repository: repository, Ref: cmp.Or(u.Ref, "refs/heads/main"), Commit: cmp.Or(u.Commit, someCommit)}
	if !isCommit(row.Commit) {
		return oci.Invalid("upload SARIF: the commit is %q: want 40 hexadecimal digits", row.Commit)
	}
	return s.storeUpload(row, u.SARIF, 0)
}

func isCommit(s string) bool { return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == "" }

func (s *Server) storeUpload(row *uploadRow, document []byte, processing time.Duration) (err error) {
	s.whole.RLock()
	defer s.whole.RUnlock()
	if row.Document, err = s.keep(document); err != nil {
		return err
	}
	row.SARIFID = s.uuid()
	row.Ready = s.now().UTC().Round(0).Add(processing)
	return s.store.secure(securityRow{Upload: row})
}

// DismissAlert dismisses an alert of code scanning for a reason: "false positive", "won't
// fix" or "used in tests".
//
// Errors: [oci.ErrInvalid] for another reason; [oci.ErrNotFound] if there is no such
// alert; a directory that cannot be written.
func (s *Server) DismissAlert(repository string, number int64, reason, comment string) error {
	if !slices.Contains(dismissalReasons, reason) {
		return oci.Invalid("dismiss alert %d of %s: the reason is %q: want one of %q", number, repository, reason, dismissalReasons)
	}
	repository = strings.ToLower(repository)
	if s.codeScanning(repository).alert(number) == nil {
		return fmt.Errorf("dismiss alert %d of %s: %w", number, repository, oci.ErrNotFound)
	}
	by := s.accounts[0].Login
	return s.store.secure(securityRow{Judgement: &judgementRow{Repository: repository, Number: number, Reason: reason, Comment: comment, By: by}})
}

var dismissalReasons = []string{"false positive", "won't fix", "used in tests", "mitigated"}

// codeScan is what code scanning says of a repository at a moment.
type codeScan struct {
	analyses []*codeAnalysis // the oldest first
	alerts   []*codeAlert    // by number
	keys     map[string]*codeAlert
}

// codeAnalysis is one run of an upload.
type codeAnalysis struct {
	*uploadRow
	id       int64
	index    int // of the run
	run      *sarifRun
	category string
}

// codeAlert is one rule at one place.
type codeAlert struct {
	number           int64
	repository       Repository
	created, updated time.Time
	tool             sarifTool
	rule             sarifRule
	level            string
	instances        []*codeInstance // the latest last
	judgement        *judgementRow   // that is in force; nil for none
}

// codeInstance is an alert on one ref, in one category.
type codeInstance struct {
	ref, category, commit string
	fixed                 time.Time // zero while it is found
	message               sarifText
	path                  string
	region                sarifRegion
	analysis              int64 // that found it last
}

func (c *codeScan) alert(number int64) *codeAlert {
	if number < 1 || number > int64(len(c.alerts)) {
		return nil
	}
	return c.alerts[number-1]
}

// codeScanning works out what follows from the uploads that are processed by now.
func (s *Server) codeScanning(repository string) *codeScan {
	r, _ := s.store.repository(repository)
	scan := &codeScan{keys: map[string]*codeAlert{}}
	uploads, judgements := s.store.scanningRows(repository)
	now := s.now()
	for _, u := range uploads {
		if u.Ready.After(now) {
			continue
		}
		log := s.sarif(u)
		if log == nil {
			continue
		}
		for i := range log.Runs {
			scan.add(r, &codeAnalysis{u, u.ID + int64(i), i, &log.Runs[i], log.Runs[i].category()})
		}
	}
	for _, j := range judgements {
		if a := scan.alert(j.Number); a != nil {
			a.judgement, a.updated = j, j.At
			if j.Open {
				a.judgement = nil
			}
		}
	}
	return scan
}

// sarif reads an upload, once; nil for what is not taken.
func (s *Server) sarif(u *uploadRow) *sarifLog {
	if log, ok := s.parsed.Load(u.Document); ok {
		return log.(*sarifLog)
	}
	raw, err := s.contents.read(u.Document)
	if err != nil {
		return nil
	}
	log, _ := parseSARIF(raw)
	s.parsed.Store(u.Document, log)
	return log
}

// alertKey is what makes two results one alert.
func alertKey(run *sarifRun, r sarifResult) string {
	path, line := "", 0
	if len(r.Locations) > 0 {
		path, line = r.Locations[0].Physical.Artifact.URI, r.Locations[0].Physical.Region.StartLine
	}
	place := cmp.Or(r.Fingerprints["primaryLocationLineHash"], fmt.Sprint(line))
	return strings.Join([]string{run.Tool.Driver.Name, run.rule(r).ID, path, place}, "\x00")
}

// add has an analysis replace the one before of its tool, category and ref.
func (c *codeScan) add(r Repository, a *codeAnalysis) {
	c.analyses = append(c.analyses, a)
	for _, result := range a.run.Results {
		key := alertKey(a.run, result)
		alert := c.keys[key]
		if alert == nil {
			alert = &codeAlert{number: int64(len(c.alerts)) + 1, repository: r, created: a.Ready}
			c.alerts = append(c.alerts, alert)
			c.keys[key] = alert
		}
		alert.find(a, result)
	}
	for _, alert := range c.alerts {
		for _, i := range alert.instances {
			if i.ref == a.Ref && i.category == a.category && alert.tool.Name == a.run.Tool.Driver.Name && i.analysis != a.id && i.fixed.IsZero() {
				i.fixed, alert.updated = a.Ready, a.Ready
			}
		}
	}
}

// find notes that an analysis has the alert.
func (alert *codeAlert) find(a *codeAnalysis, r sarifResult) {
	alert.tool, alert.rule, alert.updated = a.run.Tool.Driver, a.run.rule(r), a.Ready
	alert.level = r.level(alert.rule)
	alert.instances = slices.DeleteFunc(alert.instances, func(i *codeInstance) bool { return i.ref == a.Ref && i.category == a.category })
	i := &codeInstance{ref: a.Ref, category: a.category, commit: a.Commit, message: r.Message, analysis: a.id}
	if len(r.Locations) > 0 {
		i.path, i.region = r.Locations[0].Physical.Artifact.URI, r.Locations[0].Physical.Region
	}
	alert.instances = append(alert.instances, i)
}

// on returns the latest instance on a ref, or nil.
func (alert *codeAlert) on(ref string) (latest *codeInstance) {
	for _, i := range alert.instances {
		if i.ref == ref && (latest == nil || i.fixed.IsZero() || !latest.fixed.IsZero()) {
			latest = i
		}
	}
	return latest
}

// state of an alert on a ref: it is fixed where nothing finds it any more, and else as it
// was judged.
func (alert *codeAlert) state(ref string) string {
	switch i := alert.on(ref); {
	case i == nil || !i.fixed.IsZero():
		return "fixed"
	case alert.judgement != nil:
		return "dismissed"
	}
	return "open"
}

// scanningRows are a repository's, in their order.
func (s *store) scanningRows(repository string) ([]*uploadRow, []*judgementRow) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	uploads := slices.Clone(s.security.uploads[repository])
	slices.SortStableFunc(uploads, func(a, b *uploadRow) int { return a.Ready.Compare(b.Ready) })
	return uploads, s.security.judgements[repository]
}
