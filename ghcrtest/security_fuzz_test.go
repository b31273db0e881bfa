package ghcrtest_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// FuzzSecurityDocuments: whatever is put in is taken or refused, and what was taken can be
// listed.
func FuzzSecurityDocuments(f *testing.F) {
	img := ghcrtest.NewImage("linux/amd64")
	for _, seed := range [][]byte{
		ghcrtest.TrivySARIF("acme/app", img, openssl, lodash), ghcrtest.GrypeSARIF("acme/app", openssl), ghcrtest.Bundle(ghcrtest.Statement(provenanceType, `{}`, img)),
		[]byte(lodashAdvisory), []byte(goRecord), []byte(`{"security_advisory":{"epss":1},"dependency":[]}`), []byte(`{"version":"2.1.0","runs":[{"results":[{"ruleIndex":-1}]}]}`), []byte(`null`),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		server, err := ghcrtest.New(ghcrtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		for _, err := range []error{
			server.UploadSARIF(ghcrtest.SARIFUpload{Repository: "acme/source", SARIF: document}), server.AddAttestation("acme/source", document),
			server.AddAdvisory(document), server.AddDependabotAlert("acme/source", document),
		} {
			if err != nil && !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("refused with %v", err)
			}
		}
		// Without connections, which would make no two runs the same.
		ask := func(method, url, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, url, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+ghcrtest.Token)
			answer := httptest.NewRecorder()
			server.Handler().ServeHTTP(answer, r)
			return answer
		}
		for _, path := range []string{codePath + "alerts", codePath + "analyses", dependabotPath, attestationOf("acme", img), "/advisories?affects=lodash@1"} {
			if a := ask("GET", "https://"+ghcrtest.APIHost+path, ""); a.Code != 200 && a.Code != 404 {
				t.Errorf("%s: %d %s", path, a.Code, a.Body)
			}
		}
		ask("POST", "https://"+ghcrtest.OSVHost+"/v1/query", string(document))
		snapshotOf(t, server)
	})
}
