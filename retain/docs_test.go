package retain

import (
	"os"
	"strings"
	"testing"
)

// TestExamplesOfTheDocumentation: each is a policy, its tests pass, and each key has its
// place in the text.
func TestExamplesOfTheDocumentation(t *testing.T) {
	data, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```")
	examples := 0
	for i := 1; i < len(blocks); i += 2 {
		text, isYAML := strings.CutPrefix(blocks[i], "yaml\n")
		if !isYAML {
			continue
		}
		examples++
		policy, err := Parse("docs/policy.md", []byte(text))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
			continue
		}
		results, err := RunTests(policy, today)
		if err != nil {
			t.Error(err)
		}
		for _, r := range results {
			if !r.Passed {
				t.Error(r)
			}
		}
	}
	if examples < 7 {
		t.Errorf("only %d examples", examples)
	}
	var names []string
	collect(policyKeys(), &names)
	collect(railKeys(), &names)
	collect(protectKeys(), &names)
	collect(ruleKeys(), &names)
	collect(matchKeys(), &names)
	collect(keepKeys(), &names)
	collect(whenKeys(), &names)
	collect(testKeys(), &names)
	collect(imageKeys(), &names)
	for _, name := range names {
		if !strings.Contains(string(data), name) {
			t.Errorf("docs/policy.md says nothing of %s", name)
		}
	}
}

func collect[T any](keys []key[T], names *[]string) {
	for _, k := range keys {
		*names = append(*names, k.name)
	}
}
