package retain

import (
	"errors"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

func TestRangeMatchesVersionsAlone(t *testing.T) {
	for _, tt := range []struct{ text, yes, no string }{
		{">=0.0.0", "0.0.0 1.2.3 v1.2.3 v1 v1.2 1.2 1.0.0-rc.1 2024.01.02", "12 latest sha-1.2 20240102 1234567 V1.2.3 1.2.3.4 release-1.2.3"},
		{">=1.0.0 <2", "1.0.0 v1.9.9 2.0.0-rc.1", "0.9.0 2.0.0 1.0.0-rc.1"},
		{"~1.4", "1.4.0 1.4.9", "1.5.0"},
		{"1.x || 3.x", "1.1.1 3.0.0", "2.0.0"},
		{">=1.2, <1.4", "1.2.0 1.3.9", "1.4.0"},
	} {
		r, err := ParseRange(tt.text)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, tag := range strings.Fields(tt.yes) {
			if !r.Match(tag) {
				t.Errorf("%s does not match %s", tt.text, tag)
			}
		}
		for _, tag := range strings.Fields(tt.no) {
			if r.Match(tag) {
				t.Errorf("%s matches %s", tt.text, tag)
			}
		}
	}
	for _, bad := range []string{"", " >=1", ">=1 ", ">=1 ||", "latest", ">=1 and <2", strings.Repeat(">=1 || ", 40) + "2", strings.Repeat("1", 600)} {
		if _, err := ParseRange(bad); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%.30q: %v", bad, err)
		}
	}
	if (Range{}).Match("1.0.0") {
		t.Error("the zero range has versions in it")
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add(">=1.0.0 <2", "1.2.3")
	f.Add("1 - 2 || *", "v1")
	f.Fuzz(func(t *testing.T, text, tag string) {
		r, err := ParseRange(text)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		r.Match(tag)
	})
}
