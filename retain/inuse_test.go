package retain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

const (
	digestA = oci.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	digestB = oci.Digest("sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
)

func TestInUse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		digests    []oci.Digest
		tags       string
		unresolved string
	}{
		{"nothing", "image: ghcr.io/acme/other:v1\n", nil, "", ""},
		{"manifest", "spec:\n  containers:\n  - image: ghcr.io/acme/app:v1.2\n  - image: \"ghcr.io/Acme/App:v1.3\"\n", nil, "v1.2 v1.3", ""},
		{"digests of any image", "image: ghcr.io/acme/app@" + string(digestA) + "\nbundle: quay.io/x/y@" + strings.ToUpper(string(digestB)), []oci.Digest{digestA, digestB}, "", ""},
		{"both", "ghcr.io/acme/app:v1@" + string(digestA), []oci.Digest{digestA}, "v1", ""},
		{"list", "acme/app:a\nghcr.io/acme/app:b\n docker://ghcr.io/acme/app:c \n", nil, "a b c", ""},
		{"Dockerfile", "FROM --platform=linux/amd64 ghcr.io/acme/app:1.0 AS build\nCOPY --from=ghcr.io/acme/app /a /b\n", nil, "1.0 latest", ""},
		{"mirror", "image: mirror.example:5000/ghcr.io/acme/app:v9", nil, "v9", ""},
		{"other packages", "ghcr.io/acme/apple:v1 ghcr.io/acme/app/sub:v2 ghcr.io/xacme/app:v3 ghcr.io/acme/app-x:v4 ghcr.io/acme/app.x:v5", nil, "", ""},
		{"a repository is no image", "uses: actions/checkout@v4\nurl: https://github.com/acme/app\n", nil, "", ""},
		{"a sentence", "We run ghcr.io/acme/app:v1.2. And ghcr.io/acme/app.", nil, "latest v1.2 v1.2.", ""},
		{"kustomization", "images:\n- name: ghcr.io/acme/app\n  newTag: v7\n", nil, "latest v7", ""},
		{"kustomization with a digest", "images:\n- name: ghcr.io/acme/app\n  digest: " + string(digestA) + "\n", []oci.Digest{digestA}, "latest", ""},
		{"chart", "image:\n  registry: ghcr.io\n  repository: acme/app\n  pullPolicy: Always\n  tag: \"1.4.0\"\n", nil, "1.4.0 latest", ""},
		{"chart, tag first", "image:\n  tag: 1.4.0\n  repository: ghcr.io/acme/app\n", nil, "1.4.0 latest", ""},
		{"tag of something far away", "repository: ghcr.io/acme/app\n" + strings.Repeat("x: y\n", 20) + "tag: v1\n", nil, "latest", ""},
		{"JSON", `{"image":"ghcr.io/acme/app:v1","tag":"v2"}`, nil, "v1", ""},
		{"terraform", "image_name = \"ghcr.io/acme/app\"\nimage_tag  = \"v3\"\n", nil, "latest v3", ""},
		{"compose", "image: ghcr.io/acme/app:${TAG:-v4}\n", nil, "v4", "ghcr.io/acme/app:${TAG:-v4}"},
		{"workflow", "image: ghcr.io/acme/app:${{ github.sha }}\n", nil, "", "ghcr.io/acme/app:${{"},
		{"template", "image: ghcr.io/acme/app:v{{ .Version }}\n", nil, "", "ghcr.io/acme/app:v{{"},
		{"A24", "image: ghcr.io/acme/app:*\n", nil, "latest", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := InUse([]byte(tt.text), "ghcr.io", "acme", "app")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Digests, tt.digests) || strings.Join(got.Tags, " ") != tt.tags || strings.Join(got.Unresolved, " ") != tt.unresolved {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestInUseRefusesWhatItCannotSearch: a list that PowerShell wrote is UTF-16, and that
// nothing was found in it would not mean that nothing is used.
func TestInUseRefusesWhatItCannotSearch(t *testing.T) {
	for name, data := range map[string][]byte{
		"UTF-16":          []byte("\xff\xfeg\x00h\x00c\x00r\x00"),
		"UTF-16, no mark": []byte("g\x00h\x00c\x00r\x00"),
		"large":           make([]byte, maxUseSize+1),
	} {
		if _, err := InUse(data, "ghcr.io", "acme", "app"); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkInUse searches what is hardest to search: the time for a byte is the same for
// small files and large ones.
func BenchmarkInUse(b *testing.B) {
	for name, text := range map[string]string{
		"names": "acme/app\n", "tags": "tag: x\nacme/app:$", "nothing": "aaaaaaaa", "begins": "acme/", "digests": "acme/app@", "variables": "acme/app:${", "below": "/acme/app:",
	} {
		for _, size := range []int{20 << 10, 2 << 20} {
			data := []byte(strings.Repeat(text, size/len(text)))
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if _, err := InUse(data, "ghcr.io", "acme", "app"); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func FuzzInUse(f *testing.F) {
	f.Add("image: ghcr.io/acme/app:${TAG:-v4}\n")
	f.Add("- name: acme/app\n  newTag: v1\n@sha256:")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := InUse([]byte(text), "ghcr.io", "acme", "app")
		if err != nil {
			return
		}
		for _, tag := range got.Tags {
			if oci.CheckTag(tag) != nil {
				t.Fatalf("%q is no tag", tag)
			}
		}
		// What is behind a name is found, whatever is before and after it.
		more, err := InUse([]byte(text+"\nghcr.io/acme/app:found\n"+text), "ghcr.io", "acme", "app")
		if err == nil && !slices.Contains(more.Tags, "found") {
			t.Fatalf("%+v", more)
		}
	})
}
