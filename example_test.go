package ghcr_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// pushBuild is the README's example.
func pushBuild(ctx context.Context, options ghcr.Options) error {
	client, err := ghcr.New(options)
	if err != nil {
		return err
	}
	src, err := client.ParseEnd("oci:build:v1")
	if err != nil {
		return err
	}
	dst, err := client.ParseEnd("acme/app:v1")
	if err != nil {
		return err
	}
	result, err := client.Copy(ctx, src, dst, transfer.Options{})
	if err != nil {
		return err
	}
	fmt.Println(result.Descriptor.Digest)
	return nil
}

func ExampleClient_Copy() {
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := ghcrtest.NewImage("linux/amd64", []byte("a layer")).WriteLayout(dir+"/build", "v1"); err != nil {
		panic(err)
	}
	back, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	if err := os.Chdir(dir); err != nil {
		panic(err)
	}
	defer os.Chdir(back)
	err = pushBuild(context.Background(), ghcr.Options{
		Base:        server.Transport(),
		Credentials: transport.Static(map[string]transport.Credential{"ghcr.io": {Username: "anybody", Password: transport.NewSecret(ghcrtest.Token)}}),
	})
	if err != nil {
		fmt.Println(err, ghcr.Hint(err))
	}
	// Output: sha256:169ad97f3d3c7aee2fb24ae3e50d08f8af36b3f19c5abcf2282737c8ead8ccc9
}

// publish stands for the code that a reader of the README tests.
func publish(t *testing.T, host, token string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("anybody", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %s", resp.Status)
	}
}

func TestPublish(t *testing.T) {
	server := ghcrtest.Start(t, ghcrtest.Options{})
	publish(t, server.Host(), ghcrtest.Token) // your code, over plain HTTP
}

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// TestReadmeExamples: what the README shows is in this file, compiled and run.
func TestReadmeExamples(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	blocks := goBlock.FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 2 {
		t.Fatalf("the README has %d blocks of Go", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(flat(string(here)), flat(b[1])) {
			t.Errorf("not in example_test.go:\n%s", b[1])
		}
	}
}

// The untagged versions of a package that are older than 30 days are deleted, but for what
// an image needs.
func ExampleClient_PlanPrune() {
	server, err := ghcrtest.New(ghcrtest.Options{Ahead: -40 * 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	part, loose := ghcrtest.NewImage("linux/amd64", []byte("a layer")), ghcrtest.NewImage("linux/amd64", []byte("an old layer"))
	for tag, image := range map[string]*ghcrtest.Image{"v1": ghcrtest.NewIndex(part), "": loose} {
		if err := server.Add("acme/app", tag, image); err != nil {
			log.Fatal(err)
		}
	}
	server.Advance(40 * 24 * time.Hour)

	client, err := ghcr.New(ghcr.Options{
		Base:        server.Transport(), // without it: the network
		Credentials: transport.Static(map[string]transport.Credential{"ghcr.io": {Password: transport.NewSecret(ghcrtest.Token)}}),
	})
	if err != nil {
		log.Fatal(err)
	}
	image, err := client.ParseRef("acme/app")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := retain.Quick{Untagged: true, OlderThan: 30 * 24 * time.Hour}.Policy()
	if err != nil {
		log.Fatal(err)
	}
	policy.Rails.MaxDeletePercent = 50
	ctx := context.Background()
	plan, _, err := client.PlanPrune(ctx, image, policy, ghcr.PruneOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range plan.Actions {
		fmt.Println(a.Do, a.Digest == loose.Digest())
	}
	for _, k := range plan.Kept {
		fmt.Println("keep", k.Tags, k.Reason)
	}
	report, err := client.ApplyPrune(ctx, plan, ghcr.ApplyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Count(ghcr.Done), "of", len(plan.Actions))
	// Output:
	// delete true
	// keep [] needed-by-kept
	// keep [v1] unmatched
	// 1 of 1
}

// A deployment is held up by a vulnerability of high severity, and by an image that nobody
// has scanned, which is not known to be without any.
func ExampleClient_Vulnerabilities() {
	server, err := ghcrtest.New(ghcrtest.Options{Public: []string{"acme/app"}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	scanned, other := ghcrtest.NewImage("linux/amd64", []byte("a layer")), ghcrtest.NewImage("linux/amd64", []byte("another"))
	finding := ghcrtest.Finding{ID: "CVE-2026-1001", Severity: "HIGH", Package: "zlib1g", Version: "1.2", Fixed: "1.3"}
	scan := ghcrtest.CosignVuln("pkg:github/aquasecurity/trivy@0.67.0", ghcrtest.TrivyReport("acme/app", scanned, finding), time.Now())
	ghcrtest.CosignBundle(scanned, ghcrtest.Bundle(ghcrtest.Statement(ghcrtest.CosignVulnType, scan, scanned)))
	for tag, image := range map[string]*ghcrtest.Image{"v1": scanned, "v2": other} {
		if err := server.Add("acme/app", tag, image); err != nil {
			log.Fatal(err)
		}
	}

	client, err := ghcr.New(ghcr.Options{Base: server.Transport()}) // without Base: the network
	if err != nil {
		log.Fatal(err)
	}
	gate := vuln.Gate{FailOn: vuln.SeverityHigh}
	for _, name := range []string{"acme/app:v1", "acme/app:v2"} {
		image, err := client.ParseRef(name)
		if err != nil {
			log.Fatal(err)
		}
		report, err := client.Vulnerabilities(context.Background(), image, ghcr.VulnOptions{})
		if err != nil {
			log.Fatal(err)
		}
		verdict := gate.Check(report, time.Now())
		fmt.Println(name, verdict.Outcome)
		for _, v := range verdict.Findings {
			fmt.Println(v.Severity, v.ID, v.Package.Name, "fixed in", v.FixedIn)
		}
	}
	// Output:
	// acme/app:v1 fail
	// high CVE-2026-1001 zlib1g fixed in 1.3
	// acme/app:v2 unknown
}

// Which images of a package carry a vulnerability, and of which it is not known.
func ExampleClient_Carrying() {
	client, err := ghcr.New(ghcr.Options{Credentials: &ghcr.Logins{}, Security: ghcr.SecurityLogin(nil)})
	if err != nil {
		log.Fatal(err)
	}
	image, err := client.ParseRef("acme/app")
	if err != nil {
		log.Fatal(err)
	}
	carriers, err := client.Carrying(context.Background(), image, "CVE-2021-44228", ghcr.SweepOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range carriers.Found {
		fmt.Println(c.Version.Digest(), c.Tags, c.Findings[0].FixedIn)
	}
	for _, v := range carriers.Unknown {
		fmt.Println(v.Version.Digest(), "is not known:", v.Report.Headline(time.Now()))
	}
}
