package vuln

import (
	"errors"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

func TestParseAttestations(t *testing.T) {
	list, err := ParseAttestations([]byte(`{"attestations":[{"bundle":null,"repository_id":1,"bundle_url":"https://blob.example/x.json.sn?sig=s"},{"bundle":{"mediaType":"m"}},{}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].Inline() || list[0].BundleURL == "" || !list[1].Inline() || list[2].Inline() || list[2].BundleURL != "" {
		t.Errorf("%+v", list)
	}
}

func TestBulkAttestationsInBothShapes(t *testing.T) {
	a, b := hexDigest("a"), hexDigest("b")
	for name, text := range map[string]string{
		"a map":          `{"attestations_subject_digests":{"` + a.String() + `":[{"bundle_url":"u"}],"` + b.String() + `":null},"page_info":{"has_next":true,"next":"c"}}`,
		"a list of maps": `{"attestations_subject_digests":[{"` + a.String() + `":[{"bundle_url":"u"}]},{"` + b.String() + `":null}],"page_info":{"has_next":true,"next":"c"}}`,
	} {
		found, next, err := ParseBulkAttestations([]byte(text))
		if err != nil || next != "c" || len(found) != 2 || len(found[a]) != 1 || found[a][0].BundleURL != "u" || len(found[b]) != 0 {
			t.Errorf("%s: %v, next %q, %v", name, found, next, err)
		}
	}
	if _, next, err := ParseBulkAttestations([]byte(`{"attestations_subject_digests":{},"page_info":{"has_next":false,"next":"c"}}`)); next != "" || err != nil {
		t.Errorf("after the last page: %q, %v", next, err)
	}
	for _, bad := range []string{`{}`, `{"attestations_subject_digests":7}`, `[`} {
		if _, _, err := ParseBulkAttestations([]byte(bad)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
