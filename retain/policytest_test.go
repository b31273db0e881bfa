package retain

import (
	"strings"
	"testing"
	"time"
)

func runTests(t *testing.T, text string) []TestResult {
	t.Helper()
	results, err := RunTests(mustParse(t, text), today)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestRunTests(t *testing.T) {
	for _, r := range runTests(t, example+`
tests:
  - name: two of each minor stay
    lists: {open-prs.txt: ["12"]}
    images:
      - {tags: v1.0.0, age: 300d, want: delete, rule: releases}
      - {tags: v1.0.1, age: 250d, want: keep, rule: releases}
      - {tags: v1.0.2, age: 200d, want: keep, rule: releases}
      - {tags: [v1.1.0, latest], age: 190d, want: keep}
      - {tags: v1, age: 400d, want: keep}   # protected
      - {tags: nightly, age: 400d, want: keep}
  - name: pull requests
    lists: {open-prs.txt: ["12"]}
    images:
      - {tags: pr-12, age: 99d, want: keep}
      - {tags: pr-13-arm64, age: 15d, want: delete, rule: pr}
      - {tags: pr-14, age: 13d, want: keep, rule: pr}
      - {tags: [pr-15, main], age: 99d, want: keep}
  - name: what has no tag
    lists: {open-prs.txt: []}
    images:
      - {age: 8d, want: delete, rule: untagged}
      - {age: 6d, want: keep}
      - {want: keep}
`) {
		if !r.Passed {
			t.Error(r)
		}
	}
}

// TestRunTestsTellsWhatDiffers: of two rows that say the same one fails.
func TestRunTestsTellsWhatDiffers(t *testing.T) {
	results := runTests(t, oneRule+`
tests:
  - name: t
    images:
      - {tags: x, want: delete}
      - {tags: y, age: 3d, want: delete, rule: a}
      - {want: delete}
`)
	if len(results) != 3 || !results[0].Passed || results[1].Passed || results[2].Passed {
		t.Fatalf("%v", results)
	}
	if got := results[1].String(); got != "t: y, 3d old: keep (unmatched); want delete by rule a" {
		t.Error(got)
	}
	if got := results[0].String(); got != "t: x, 0s old: delete (rule, rule a)" {
		t.Error(got)
	}
}

// TestRunTestsCountsOnlyItsImages: nothing that is made up besides takes a place.
func TestRunTestsCountsOnlyItsImages(t *testing.T) {
	for _, r := range runTests(t, `
version: 1
defaults: {allow_match_all: true}
rules:
  - {name: a, match: {tags: "*"}, keep: {at_least: 2, whole: true}, delete: all}
tests:
  - name: newest first where ages are the same
    images: [{tags: a, want: keep}, {tags: b, want: keep}, {tags: c, want: delete}]
  - name: alone
    images: [{tags: a, age: 99d, want: keep}]
`) {
		if !r.Passed {
			t.Error(r)
		}
	}
}

func TestRunTestsReadsAnnotationsAndLabels(t *testing.T) {
	for _, r := range runTests(t, `
version: 1
rules:
  - {name: expired, match: {annotations: {expires-after: "*"}, tags: "t*"}, delete: {expired: expires-after}}
  - {name: temporary, match: {labels: {kind: temp}, tags: "t*"}, delete: all}
tests:
  - name: t
    images:
      - {tags: t1, age: 3d, annotations: {expires-after: 48h}, want: delete, rule: expired}
      - {tags: t2, age: 1d, annotations: {expires-after: 48h}, want: keep}
      - {tags: t3, labels: {kind: temp}, want: delete, rule: temporary}
      - {tags: t4, labels: {kind: other}, want: keep}
      - {tags: t5, want: keep}
`) {
		if !r.Passed {
			t.Error(r)
		}
	}
}

func TestRunTestsErrs(t *testing.T) {
	p := mustParse(t, oneRule)
	p.Rules[0].Delete.NotIn = "gone.txt"
	p.Tests = []Test{{Name: "t", Images: []TestImage{{Tags: []string{"x"}, Want: "keep"}}}}
	if _, err := RunTests(p, time.Now()); err == nil || !strings.Contains(err.Error(), `test "t"`) {
		t.Error(err)
	}
}
