package oci_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/llm-dev-ops/ghcr/oci"
)

var hex64 = strings.Repeat("0123456789abcdef", 4)

func TestParseRef(t *testing.T) {
	t.Parallel()
	d := "sha256:" + hex64
	for _, test := range []struct{ in, want string }{
		{"acme/app", "ghcr.io/acme/app"},
		{"acme/app:v1", "ghcr.io/acme/app:v1"},
		{"acme/app@" + d, "ghcr.io/acme/app@" + d},
		{"acme/app:v1@" + d, "ghcr.io/acme/app:v1@" + d},
		{"acme/team/app/part:v1", "ghcr.io/acme/team/app/part:v1"},
		{"ghcr.io/acme/app:v1", "ghcr.io/acme/app:v1"},
		{"GHCR.io/acme/app", "ghcr.io/acme/app"},
		{"Acme/App:V1", "ghcr.io/acme/app:V1"},
		{"localhost/x:y", "localhost/x:y"},
		{"localhost:5000/x/y:z", "localhost:5000/x/y:z"},
		{"127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y"},
		{"[::1]:5000/x/y:z", "[::1]:5000/x/y:z"},
		{"registry.example.com/x", "registry.example.com/x"},
		{"https://github.com/orgs/Acme/packages/container/app", "ghcr.io/acme/app"},
		{"https://github.com/orgs/acme/packages/container/package/app", "ghcr.io/acme/app"},
		{"https://github.com/users/octocat/packages/container/a%2Fb/settings", "ghcr.io/octocat/a/b"},
		{"https://github.com/acme/repo/pkgs/container/app", "ghcr.io/acme/app"},
	} {
		ref, err := oci.ParseRef(test.in)
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if got := ref.String(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
		if again, err := oci.ParseRef(ref.String()); err != nil || again != ref {
			t.Errorf("%s: read back as %v, %v", ref, again, err)
		}
	}
}

func TestParseRefRefuses(t *testing.T) {
	t.Parallel()
	for in, word := range map[string]string{
		"":                                     "empty",
		"acme":                                 "only an owner",
		"acme/":                                "malformed name",
		"acme//app":                            "malformed name",
		"acme/app:":                            "malformed tag",
		"acme/app:-v1":                         "malformed tag",
		"acme/app:" + strings.Repeat("a", 129): "malformed tag",
		"acme/app@sha256:abc":                  "malformed digest",
		"acme/app@sha256:" + strings.ToUpper(hex64):  "malformed digest",
		"acme/app@md5:" + hex64[:32]:                 "malformed digest",
		"acme/../app":                                "malformed name",
		"acme/ app":                                  "malformed name",
		"host:port/x":                                "malformed",
		"https://example.com/acme/app":               "package's page",
		"https://github.com/acme":                    "package's page",
		"docker://ghcr.io/acme/app":                  "leave out docker://",
		"me:secret@ghcr.io/acme/app":                 "no login in it",
		"https://secret@ghcr.io/acme/app":            "no login in it",
		"ghcr.io/" + strings.Repeat("a/", 200) + "b": "limit",
	} {
		_, err := oci.ParseRef(in)
		if !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", in, err)
			continue
		}
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %q does not say %q", in, err, word)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: what may be a secret is in the text: %s", in, err)
		}
		if strings.Count(err.Error(), "invalid input") > 0 {
			t.Errorf("%q: the class is in the text: %s", in, err)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"acme/app:v1@sha256:" + hex64, "[::1]:1/a", "https://github.com/orgs/a/packages/container/b", "a.b:1/c/d:e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := oci.ParseRef(s)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Fatalf("%q: %v is not ErrInvalid", s, err)
			}
			return
		}
		again, err := oci.ParseRef(ref.String())
		if err != nil || again != ref {
			t.Fatalf("%q gave %q, which reads back as %v, %v", s, ref, again, err)
		}
		if strings.Contains(ref.Name, "..") || strings.ContainsAny(ref.Registry, "/@ ") {
			t.Fatalf("%q gave %q", s, ref)
		}
	})
}

// Which hosts there are is the same for every client: what docker's own grammar takes.
func FuzzHostIsDockers(f *testing.F) {
	dockers := regexp.MustCompile(`^(?:` + reference.DomainRegexp.String() + `)$`)
	for _, host := range []string{
		"ghcr.io", "localhost", "localhost:5000", "127.0.0.1:443", "[::1]", "[::1]:5000", "a", "A.b-c.D:1",
		"", "-a", "a-", "a..b", ".a", "a.", "a_b", "a:", ":1", "a:1:2", "[::1", "[]", "[g]", "[::1]a", "a:b", "a/b", "ä.de", "a\n",
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		_, err := oci.ParseRefDefault("acme/app", host)
		if takes, want := err == nil, dockers.MatchString(host); takes != want {
			t.Errorf("host %q: taken %v, docker's grammar takes it: %v (%v)", host, takes, want, err)
		}
	})
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	entry := func(s string) oci.Descriptor {
		p, err := oci.ParsePlatform(s)
		if err != nil {
			t.Fatal(err)
		}
		return oci.Descriptor{Platform: &p}
	}
	unknown := oci.Descriptor{Platform: &oci.Platform{OS: "unknown", Architecture: "unknown"}}
	for _, test := range []struct {
		want    string
		entries []string
		picked  string
	}{
		{"linux/amd64", []string{"linux/arm64", "linux/amd64"}, "linux/amd64"},
		{"linux/x86_64", []string{"linux/amd64"}, "linux/amd64"},
		{"linux/arm64", []string{"linux/arm64/v8"}, "linux/arm64"},
		{"linux/aarch64/v8", []string{"linux/arm64"}, "linux/arm64"},
		{"linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6"}, "linux/arm/v6"},
		{"linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v5"}, "linux/arm/v5"},
		{"linux/arm", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2"}, "linux/amd64/v2"},
		{"linux/amd64", []string{"linux/amd64/v2"}, ""},
		{"windows/amd64:10.0.20348", []string{"windows/amd64:10.0.17763.1", "windows/amd64:10.0.20348.1726"}, "windows/amd64:10.0.20348.1726"},
		{"linux/s390x", []string{"linux/amd64", "linux/arm64"}, ""},
	} {
		entries := []oci.Descriptor{unknown}
		for _, s := range test.entries {
			entries = append(entries, entry(s))
		}
		want, err := oci.ParsePlatform(test.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := oci.SelectPlatform(entries, want)
		switch {
		case test.picked == "" && (!errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), test.entries[0])):
			t.Errorf("%s of %v: got %v, want an error that names them", test.want, test.entries, err)
		case test.picked != "" && err != nil:
			t.Errorf("%s of %v: %v", test.want, test.entries, err)
		case test.picked != "" && oci.FormatPlatform(*got.Platform) != test.picked:
			t.Errorf("%s of %v: got %s, want %s", test.want, test.entries, oci.FormatPlatform(*got.Platform), test.picked)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "/amd64", "a/b/c/d"} {
		if _, err := oci.ParsePlatform(s); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", s, err)
		}
	}
}

func ExampleParseRef() {
	ref, err := oci.ParseRef("Acme/app:v1")
	if err != nil {
		panic(err)
	}
	fmt.Println(ref)
	fmt.Println(ref.Registry, ref.Owner(), ref.Reference.Tag)
	// Output:
	// ghcr.io/acme/app:v1
	// ghcr.io acme v1
}
