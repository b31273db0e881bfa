package ghcrtest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What code scanning takes: more than the first of a pair is refused, and of what is
// taken no more than the second is kept.
const (
	maxRuns                         = 20
	maxResults, keptResults         = 25_000, 5_000
	maxRules                        = 25_000
	maxExtensions                   = 100
	maxLocations                    = 1_000
	maxRuleTags, keptRuleTags       = 20, 10
	maxSARIF, maxUnpacked     int64 = 10 << 20, 64 << 20 // bytes, of the upload and what it unpacks to
)

// sarifLog is what code scanning reads of SARIF 2.1.0.
type sarifLog struct {
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver     sarifTool   `json:"driver"`
		Extensions []sarifTool `json:"extensions"`
	} `json:"tool"`
	Results    []sarifResult `json:"results"`
	Automation struct {
		ID string `json:"id"`
	} `json:"automationDetails"`
}

type sarifTool struct {
	Name            string      `json:"name"`
	GUID            string      `json:"guid"`
	Version         string      `json:"version"`
	SemanticVersion string      `json:"semanticVersion"`
	Rules           []sarifRule `json:"rules"`
}

type sarifText struct {
	Text     string `json:"text"`
	Markdown string `json:"markdown"`
}

type sarifRule struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Short   sarifText `json:"shortDescription"`
	Full    sarifText `json:"fullDescription"`
	Help    sarifText `json:"help"`
	HelpURI string    `json:"helpUri"`
	Default struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
	Properties struct {
		Severity string   `json:"security-severity"`
		Tags     []string `json:"tags"`
	} `json:"properties"`
}

type sarifResult struct {
	RuleID    string `json:"ruleId"`
	RuleIndex *int   `json:"ruleIndex"`
	Rule      struct {
		ID string `json:"id"`
	} `json:"rule"`
	Level     string    `json:"level"`
	Message   sarifText `json:"message"`
	Locations []struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region sarifRegion `json:"region"`
		} `json:"physicalLocation"`
	} `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
}

type sarifRegion struct {
	StartLine   int `json:"startLine"`
	EndLine     int `json:"endLine"`
	StartColumn int `json:"startColumn"`
	EndColumn   int `json:"endColumn"`
}

// parseSARIF reads an upload, and says what is wrong with it in GitHub's words.
func parseSARIF(raw []byte) (*sarifLog, []string) {
	var log sarifLog
	if err := json.Unmarshal(raw, &log); err != nil {
		return nil, []string{"Invalid SARIF. JSON syntax error: " + err.Error()}
	}
	switch {
	case log.Version != "2.1.0":
		return nil, []string{fmt.Sprintf("Invalid SARIF. Unsupported version %q", log.Version)}
	case len(log.Runs) == 0:
		return nil, []string{"Invalid SARIF. Missing 'runs' array"}
	}
	var wrong []string
	check := func(what string, n, most int) {
		if n > most {
			wrong = append(wrong, fmt.Sprintf("rejecting SARIF, as there are more %s than allowed (%d > %d)", what, n, most))
		}
	}
	check("runs", len(log.Runs), maxRuns)
	for i := range log.Runs {
		run := &log.Runs[i]
		if run.Tool.Driver.Name == "" {
			wrong = append(wrong, "Invalid SARIF. Missing 'tool.driver.name'")
		}
		if run.Results == nil {
			wrong = append(wrong, "Invalid SARIF. Missing 'results' array in run.")
		}
		check("results per run", len(run.Results), maxResults)
		check("rules per run", len(run.Tool.Driver.Rules), maxRules)
		check("extensions per run", len(run.Tool.Extensions), maxExtensions)
		for _, rule := range run.Tool.Driver.Rules {
			check("tags per rule", len(rule.Properties.Tags), maxRuleTags)
		}
		for _, r := range run.Results {
			check("locations per result", len(r.Locations), maxLocations)
		}
		run.keepWorst()
	}
	if len(wrong) > 0 {
		return nil, slices.Compact(wrong)
	}
	return &log, nil
}

// keepWorst drops the results beyond those that are kept, the least severe.
func (run *sarifRun) keepWorst() {
	if len(run.Results) <= keptResults {
		return
	}
	rank := map[string]float64{"error": 3, "warning": 2, "note": 1}
	weight := func(r sarifResult) float64 {
		rule := run.rule(r)
		score, _ := strconv.ParseFloat(rule.Properties.Severity, 64)
		return score*10 + rank[r.level(rule)]
	}
	slices.SortStableFunc(run.Results, func(a, b sarifResult) int { return cmp.Compare(weight(b), weight(a)) })
	run.Results = run.Results[:keptResults]
}

// category is what analyses of a tool replace each other within.
func (run *sarifRun) category() string {
	if i := strings.LastIndex(run.Automation.ID, "/"); i >= 0 {
		return run.Automation.ID[:i]
	}
	return run.Automation.ID
}

// rule finds a result's; of one that is not described only the id is known.
func (run *sarifRun) rule(r sarifResult) sarifRule {
	id := cmp.Or(r.RuleID, r.Rule.ID)
	rules := run.Tool.Driver.Rules
	if r.RuleIndex != nil && *r.RuleIndex >= 0 && *r.RuleIndex < len(rules) {
		if rule := rules[*r.RuleIndex]; id == "" || rule.ID == id {
			return rule
		}
	}
	for _, tool := range append([]sarifTool{run.Tool.Driver}, run.Tool.Extensions...) {
		if i := slices.IndexFunc(tool.Rules, func(rule sarifRule) bool { return rule.ID == id }); i >= 0 {
			return tool.Rules[i]
		}
	}
	return sarifRule{ID: id}
}

func (r sarifResult) level(rule sarifRule) string {
	return cmp.Or(r.Level, rule.Default.Level, "warning")
}

// securityLevel is the word for a score, or nothing for a rule that has none.
func (rule sarifRule) securityLevel() *string {
	score, err := strconv.ParseFloat(rule.Properties.Severity, 64)
	if err != nil || score <= 0 {
		return nil
	}
	word := "low"
	switch {
	case score >= 9:
		word = "critical"
	case score >= 7:
		word = "high"
	case score >= 4:
		word = "medium"
	}
	return &word
}

// downloaded is one run of an upload as an analysis is downloaded: a part of it, with the
// numbers of the alerts. Whether the run's properties stay is a switch.
func downloaded(raw []byte, run int, properties bool, alert func(sarifResult) (number int64, url string)) ([]byte, error) {
	var log struct {
		Schema string                       `json:"$schema"`
		Runs   []map[string]json.RawMessage `json:"runs"`
	}
	if err := json.Unmarshal(raw, &log); err != nil {
		return nil, err
	}
	kept := map[string]any{}
	for _, name := range []string{"tool", "automationDetails", "columnKind", "versionControlProvenance", "properties"} {
		if v, ok := log.Runs[run][name]; ok && (name != "properties" || properties) {
			kept[name] = v
		}
	}
	var results []json.RawMessage
	if err := json.Unmarshal(log.Runs[run]["results"], &results); err != nil {
		return nil, err
	}
	numbered := []any{}
	for _, text := range results {
		var result sarifResult
		var all map[string]any
		if err := errors.Join(json.Unmarshal(text, &result), json.Unmarshal(text, &all)); err != nil {
			return nil, err
		}
		n, url := alert(result)
		if n == 0 {
			continue // too many were uploaded
		}
		own, _ := all["properties"].(map[string]any)
		if own == nil {
			own = map[string]any{}
		}
		own["github/alertNumber"], own["github/alertUrl"] = n, url
		all["properties"] = own
		numbered = append(numbered, all)
	}
	kept["results"] = numbered
	return json.Marshal(map[string]any{"$schema": log.Schema, "version": "2.1.0", "runs": []any{kept}})
}
