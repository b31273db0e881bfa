package ghcrtest

import (
	"cmp"
	"strconv"
	"time"
)

type codeToolJSON struct {
	Name    string  `json:"name"`
	GUID    *string `json:"guid"`
	Version *string `json:"version"`
}

func toolJSON(t sarifTool) codeToolJSON {
	return codeToolJSON{t.Name, orNull(t.GUID), orNull(cmp.Or(t.SemanticVersion, t.Version))}
}

// orNull is null in JSON for what is empty.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func timeOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return orNull(timestamp(t))
}

type codeRuleJSON struct {
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	Severity        string   `json:"severity"`
	SecurityLevel   *string  `json:"security_severity_level"`
	Description     string   `json:"description"`
	FullDescription string   `json:"full_description"`
	Tags            []string `json:"tags"`
	Help            *string  `json:"help"`
	HelpURI         *string  `json:"help_uri"`
}

type codeLocationJSON struct {
	Path        string `json:"path"`
	StartLine   int    `json:"start_line"`
	EndLine     int    `json:"end_line"`
	StartColumn int    `json:"start_column"`
	EndColumn   int    `json:"end_column"`
}

type codeMessageJSON struct {
	Text     string `json:"text"`
	Markdown string `json:"markdown,omitempty"`
}

type codeInstanceJSON struct {
	Ref             string           `json:"ref"`
	AnalysisKey     string           `json:"analysis_key"`
	Environment     string           `json:"environment"`
	Category        string           `json:"category"`
	State           string           `json:"state"`
	Commit          string           `json:"commit_sha"`
	Message         codeMessageJSON  `json:"message"`
	Location        codeLocationJSON `json:"location"`
	Classifications []string         `json:"classifications"`
}

func (alert *codeAlert) instanceJSON(i *codeInstance) codeInstanceJSON {
	state := "open"
	if !i.fixed.IsZero() {
		state = "fixed"
	} else if alert.judgement != nil {
		state = "dismissed"
	}
	r := i.region
	return codeInstanceJSON{
		Ref: i.ref, AnalysisKey: analysisKey, Environment: "{}", Category: i.category, State: state, Commit: i.commit,
		Message:         codeMessageJSON{i.message.Text, i.message.Markdown},
		Location:        codeLocationJSON{i.path, r.StartLine, cmp.Or(r.EndLine, r.StartLine), r.StartColumn, r.EndColumn},
		Classifications: []string{},
	}
}

type codeAlertJSON struct {
	Number           int64             `json:"number"`
	CreatedAt        string            `json:"created_at"`
	UpdatedAt        string            `json:"updated_at"`
	URL              string            `json:"url"`
	HTMLURL          string            `json:"html_url"`
	InstancesURL     string            `json:"instances_url"`
	State            string            `json:"state"`
	FixedAt          *string           `json:"fixed_at"`
	DismissedBy      *ownerJSON        `json:"dismissed_by"`
	DismissedAt      *string           `json:"dismissed_at"`
	DismissedReason  *string           `json:"dismissed_reason"`
	DismissedComment *string           `json:"dismissed_comment"`
	Rule             codeRuleJSON      `json:"rule"`
	Tool             codeToolJSON      `json:"tool"`
	Instance         *codeInstanceJSON `json:"most_recent_instance"`
	Repository       *repositoryJSON   `json:"repository,omitempty"` // in lists of an organization
}

func (x *exchange) codeAlertJSON(alert *codeAlert, ref string) codeAlertJSON {
	r := alert.repository
	url := x.repositoryURL(r.Name) + "/code-scanning/alerts/" + strconv.FormatInt(alert.number, 10)
	rule := alert.rule
	shown := codeAlertJSON{
		Number: alert.number, CreatedAt: timestamp(alert.created), UpdatedAt: timestamp(alert.updated), URL: url, InstancesURL: url + "/instances",
		HTMLURL: "https://" + WebHost + "/" + r.Name + "/security/code-scanning/" + strconv.FormatInt(alert.number, 10), State: alert.state(ref),
		Tool: toolJSON(alert.tool),
		Rule: codeRuleJSON{
			rule.ID, rule.Name, alert.level, rule.securityLevel(), rule.Short.Text, cmp.Or(rule.Full.Text, rule.Short.Text),
			append([]string{}, rule.Properties.Tags[:min(len(rule.Properties.Tags), keptRuleTags)]...), orNull(cmp.Or(rule.Help.Markdown, rule.Help.Text)), orNull(rule.HelpURI),
		},
	}
	if i := alert.on(ref); i != nil {
		instance := alert.instanceJSON(i)
		shown.Instance, shown.FixedAt = &instance, timeOrNull(i.fixed)
	}
	if j := alert.judgement; j != nil {
		by := x.ownerJSON(x.server.owner(j.By))
		shown.DismissedBy, shown.DismissedAt, shown.DismissedReason, shown.DismissedComment = &by, timeOrNull(j.At), orNull(j.Reason), orNull(j.Comment)
	}
	return shown
}

type analysisJSON struct {
	Ref         string       `json:"ref"`
	Commit      string       `json:"commit_sha"`
	AnalysisKey string       `json:"analysis_key"`
	Environment string       `json:"environment"`
	Category    string       `json:"category"`
	Error       string       `json:"error"`
	CreatedAt   string       `json:"created_at"`
	Results     int          `json:"results_count"`
	Rules       int          `json:"rules_count"`
	ID          int64        `json:"id"`
	URL         string       `json:"url"`
	SARIFID     string       `json:"sarif_id"`
	Tool        codeToolJSON `json:"tool"`
	Deletable   bool         `json:"deletable"`
	Warning     string       `json:"warning"`
}

func (x *exchange) analysisJSON(a *codeAnalysis) analysisJSON {
	return analysisJSON{
		Ref: a.Ref, Commit: a.Commit, AnalysisKey: analysisKey, Environment: "{}", Category: a.category, CreatedAt: timestamp(a.Ready),
		Results: len(a.run.Results), Rules: len(a.run.Tool.Driver.Rules), ID: a.id, SARIFID: a.SARIFID, Tool: toolJSON(a.run.Tool.Driver), Deletable: true,
		URL: x.repositoryURL(a.Repository) + "/code-scanning/analyses/" + strconv.FormatInt(a.id, 10),
	}
}
