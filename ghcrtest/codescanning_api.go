package ghcrtest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// analysisKey is that of an upload that no workflow made.
const analysisKey = "(default)"

// scanned finds the repository of a call to code scanning, and answers if it may not be
// made, or code scanning is off.
func (x *exchange) scanned(p permission) (Repository, bool) {
	r, ok := x.repository(p)
	if ok && !r.codeScanning() {
		x.refuseAPI(http.StatusForbidden, x.server.quirks.SecurityOffWording+" must be enabled for this repository to use code scanning.")
		return r, false
	}
	return r, ok
}

// codeScan is scanned, and what was found; it answers if nothing was analysed.
func (x *exchange) codeScan(p permission) (Repository, *codeScan, bool) {
	r, ok := x.scanned(p)
	if !ok {
		return r, nil, false
	}
	scan := x.server.codeScanning(r.Name)
	if len(scan.analyses) == 0 {
		x.refuseAPI(http.StatusNotFound, "no analysis found")
		return r, nil, false
	}
	return r, scan, true
}

// alertFilter reads what alerts are asked for, and answers what makes no sense.
func (x *exchange) alertFilter() (matches func(a *codeAlert, ref string) bool, ok bool) {
	query := x.r.URL.Query()
	tool, guid, state, severity := query.Get("tool_name"), query.Get("tool_guid"), query.Get("state"), query.Get("severity")
	switch {
	case tool != "" && guid != "":
		x.unprocessable("Only one of tool_name and tool_guid may be given.")
		return nil, false
	case !slices.Contains([]string{"", "open", "closed", "dismissed", "fixed"}, state):
		x.unprocessable("Invalid state: " + state)
		return nil, false
	}
	return func(a *codeAlert, ref string) bool {
		level := a.rule.securityLevel()
		now := a.state(ref)
		return a.on(ref) != nil && (tool == "" || a.tool.Name == tool) && (guid == "" || a.tool.GUID == guid) &&
			(severity == "" || severity == a.level || level != nil && severity == *level) &&
			(state == now || state == "" && now == "open" || state == "closed" && now != "open")
	}, true
}

// sortAlerts puts those first that were made, or changed, last.
func (x *exchange) sortAlerts(list []*codeAlert) {
	query := x.r.URL.Query()
	slices.SortStableFunc(list, func(a, b *codeAlert) int {
		at, bt := a.created, b.created
		if query.Get("sort") == "updated" {
			at, bt = a.updated, b.updated
		}
		order := cmp.Or(bt.Compare(at), cmp.Compare(b.number, a.number))
		if query.Get("direction") == "asc" {
			order = -order
		}
		return order
	})
}

// askedRef is the one that the query names, or the default branch.
func (x *exchange) askedRef(r Repository) string {
	query := x.r.URL.Query()
	if pr := query.Get("pr"); pr != "" {
		return "refs/pull/" + pr + "/merge"
	}
	ref := query.Get("ref")
	if ref != "" && !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	return cmp.Or(ref, r.defaultRef())
}

// pageOf is a page of a list that is asked for by number.
func pageOf[T any](x *exchange, list []T) []T {
	page := x.page()
	x.links(page, len(list))
	first := min(page.first(), len(list))
	return list[first:min(first+page.size, len(list))]
}

func (x *exchange) listCodeAlerts() {
	r, scan, ok := x.codeScan(readAlerts)
	if !ok {
		return
	}
	matches, ok := x.alertFilter()
	if !ok {
		return
	}
	ref := x.askedRef(r)
	alerts := slices.DeleteFunc(slices.Clone(scan.alerts), func(a *codeAlert) bool { return !matches(a, ref) })
	x.sortAlerts(alerts)
	list := []codeAlertJSON{}
	for _, a := range pageOf(x, alerts) {
		list = append(list, x.codeAlertJSON(a, ref))
	}
	x.answerJSON(http.StatusOK, list)
}

// listOwnerCodeAlerts lists those of the default branches of all repositories that the
// caller may read them of.
func (x *exchange) listOwnerCodeAlerts() {
	if !x.organizationCall() {
		return
	}
	matches, ok := x.alertFilter()
	if !ok {
		return
	}
	var alerts []*codeAlert
	for _, r := range x.ownerRepositories(readAlerts) {
		if r.codeScanning() {
			alerts = append(alerts, slices.DeleteFunc(x.server.codeScanning(r.Name).alerts, func(a *codeAlert) bool { return !matches(a, r.defaultRef()) })...)
		}
	}
	x.sortAlerts(alerts)
	alerts, c, ok := cursorPage(x, alerts, func(a *codeAlert) int64 { return number(a.repository.Name)<<24 | a.number })
	if !ok {
		return
	}
	list := []codeAlertJSON{}
	for _, a := range alerts {
		shown := x.codeAlertJSON(a, a.repository.defaultRef())
		shown.Repository = x.sourceJSON(a.repository)
		list = append(list, shown)
	}
	x.linkCursors(c)
	x.answerJSON(http.StatusOK, list)
}

// codeAlert finds the alert of the path, and answers if there is none.
func (x *exchange) codeAlert(p permission) (Repository, *codeAlert, bool) {
	r, scan, ok := x.codeScan(p)
	if !ok {
		return r, nil, false
	}
	n, ok := x.pathID(x.ref)
	if !ok {
		return r, nil, false
	}
	alert := scan.alert(n)
	if alert == nil {
		x.refuseAPI(http.StatusNotFound, "No alert found for alert number "+x.ref)
	}
	return r, alert, alert != nil
}

func (x *exchange) getCodeAlert() {
	if r, alert, ok := x.codeAlert(readAlerts); ok {
		x.answerJSON(http.StatusOK, x.codeAlertJSON(alert, r.defaultRef()))
	}
}

func (x *exchange) listCodeInstances() {
	_, alert, ok := x.codeAlert(readAlerts)
	if !ok {
		return
	}
	ref := x.r.URL.Query().Get("ref")
	list := []codeInstanceJSON{}
	for _, i := range slices.Backward(alert.instances) {
		if ref == "" || i.ref == ref {
			list = append(list, alert.instanceJSON(i))
		}
	}
	x.answerJSON(http.StatusOK, pageOf(x, list))
}

// updateCodeAlert dismisses an alert, or opens it again.
func (x *exchange) updateCodeAlert() {
	r, alert, ok := x.codeAlert(writeAlerts)
	if !ok {
		return
	}
	var body struct {
		State   string `json:"state"`
		Reason  string `json:"dismissed_reason"`
		Comment string `json:"dismissed_comment"`
	}
	if !x.bodyJSON(maxAdminBody, &body) {
		return
	}
	dismissed := body.State == "dismissed"
	if body.State != "open" && !dismissed || dismissed != slices.Contains(dismissalReasons, body.Reason) {
		x.refuseAPI(http.StatusBadRequest, "The state is dismissed, with a reason, or open.")
		return
	}
	by := x.server.self(x.who)
	row := &judgementRow{Repository: r.Name, Number: alert.number, Open: !dismissed, Reason: body.Reason, Comment: body.Comment, By: by.Login}
	if err := x.server.store.secure(securityRow{Judgement: row}); err != nil {
		x.internalAPI(err)
		return
	}
	x.answerJSON(http.StatusOK, x.codeAlertJSON(x.server.codeScanning(r.Name).alert(alert.number), r.defaultRef()))
}

func (x *exchange) listAnalyses() {
	r, scan, ok := x.codeScan(readAlerts)
	if !ok {
		return
	}
	query := x.r.URL.Query()
	ref := ""
	if query.Get("ref") != "" || query.Get("pr") != "" {
		ref = x.askedRef(r)
	}
	list := []analysisJSON{}
	for _, a := range slices.Backward(scan.analyses) {
		driver := a.run.Tool.Driver
		asked := func(name, value string) bool { return query.Get(name) == "" || query.Get(name) == value }
		if asked("tool_name", driver.Name) && asked("tool_guid", driver.GUID) && asked("sarif_id", a.SARIFID) && (ref == "" || a.Ref == ref) {
			list = append(list, x.analysisJSON(a))
		}
	}
	if query.Get("direction") == "asc" {
		slices.Reverse(list)
	}
	x.answerJSON(http.StatusOK, pageOf(x, list))
}

const sarifType = "application/sarif+json"

// getAnalysis answers what an analysis is, or to who accepts it the SARIF that it is of.
func (x *exchange) getAnalysis() {
	r, scan, ok := x.codeScan(readAlerts)
	if !ok {
		return
	}
	id, ok := x.pathID(x.ref)
	if !ok {
		return
	}
	i := slices.IndexFunc(scan.analyses, func(a *codeAnalysis) bool { return a.id == id })
	if i < 0 {
		x.refuseAPI(http.StatusNotFound, "No analysis found for analysis ID "+x.ref)
		return
	}
	a := scan.analyses[i]
	if !strings.Contains(x.r.Header.Get("Accept"), sarifType) {
		x.answerJSON(http.StatusOK, x.analysisJSON(a))
		return
	}
	raw, err := x.server.contents.read(a.Document)
	if err == nil {
		raw, err = downloaded(raw, a.index, x.server.quirks.CodeScanningProperties, func(result sarifResult) (int64, string) {
			alert := scan.keys[alertKey(a.run, result)]
			if alert == nil {
				return 0, ""
			}
			return alert.number, x.repositoryURL(r.Name) + "/code-scanning/alerts/" + strconv.FormatInt(alert.number, 10)
		})
	}
	if err != nil {
		x.internalAPI(err)
		return
	}
	x.w.Header().Set("Content-Type", sarifType)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	if x.w.WriteHeader(http.StatusOK); x.r.Method != http.MethodHead {
		x.w.Write(raw)
	}
}

// uploadSARIF takes in what a scanner found: gzip in base64.
func (x *exchange) uploadSARIF() {
	r, ok := x.scanned(writeAlerts)
	if !ok {
		return
	}
	var body struct {
		Commit string `json:"commit_sha"`
		Ref    string `json:"ref"`
		SARIF  string `json:"sarif"`
	}
	if !x.bodyJSON(maxSARIF*3/2, &body) {
		return
	}
	switch {
	case !isCommit(body.Commit):
		x.refuseAPI(http.StatusBadRequest, "commit_sha must be a full-length commit SHA.")
		return
	case !strings.HasPrefix(body.Ref, "refs/heads/") && !strings.HasPrefix(body.Ref, "refs/tags/") && !strings.HasPrefix(body.Ref, "refs/pull/"):
		x.refuseAPI(http.StatusBadRequest, "ref must be a full Git reference name.")
		return
	}
	raw, err := unpackSARIF(body.SARIF)
	switch {
	case errors.Is(err, errTooLarge):
		x.refuseAPI(http.StatusRequestEntityTooLarge, "The sarif field is too large.")
		return
	case err != nil:
		x.refuseAPI(http.StatusBadRequest, "Invalid SARIF. The SARIF data is not gzip compressed and Base64 encoded: "+err.Error())
		return
	}
	row := &uploadRow{Repository: r.Name, Ref: body.Ref, Commit: body.Commit}
	if err := x.server.storeUpload(row, raw, x.server.quirks.CodeScanningDelay); err != nil {
		x.internalAPI(err)
		return
	}
	x.answerJSON(http.StatusAccepted, map[string]string{"id": row.SARIFID, "url": x.repositoryURL(r.Name) + "/code-scanning/sarifs/" + row.SARIFID})
}

var errTooLarge = errors.New("too large")

func unpackSARIF(text string) ([]byte, error) {
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if int64(len(packed)) > maxSARIF {
		return nil, errTooLarge
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err == nil && int64(len(raw)) > maxUnpacked {
		err = errTooLarge
	}
	return raw, err
}

// getSARIF tells what became of an upload.
func (x *exchange) getSARIF() {
	r, ok := x.scanned(readAlerts)
	if !ok {
		return
	}
	uploads, _ := x.server.store.scanningRows(r.Name)
	i := slices.IndexFunc(uploads, func(u *uploadRow) bool { return u.SARIFID == x.ref })
	if i < 0 {
		x.noRoute()
		return
	}
	answer := map[string]any{"processing_status": "pending", "analyses_url": nil, "errors": nil}
	if u := uploads[i]; !u.Ready.After(x.server.now()) {
		raw, err := x.server.contents.read(u.Document)
		if err != nil {
			x.internalAPI(err)
			return
		}
		if _, wrong := parseSARIF(raw); len(wrong) > 0 {
			answer["processing_status"], answer["errors"] = "failed", wrong
		} else {
			answer["processing_status"], answer["analyses_url"] = "complete", x.repositoryURL(r.Name)+"/code-scanning/analyses?sarif_id="+u.SARIFID
		}
	}
	x.answerJSON(http.StatusOK, answer)
}
