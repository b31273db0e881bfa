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
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
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
