package retain

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func someInventory(t testing.TB) *pkg {
	p, _ := somePlan(t)
	binary, err := oci.ParseManifest("application/vnd.example", []byte{0xff, 0x00, '"', '\n'})
	if err != nil {
		t.Fatal(err)
	}
	p.add(binary, "binary")
	empty, err := oci.ParseManifest("application/vnd.example", []byte{})
	if err != nil {
		t.Fatal(err)
	}
	p.add(empty, "empty")
	v := p.image("unread", "b", "a")
	p.at(v).Manifest, p.at(v).Created = nil, time.Time{}
	v = p.image("unreadable")
	p.at(v).Manifest, p.at(v).Unreadable = nil, "404 <not found>"
	p.inv.Versions[0].Labels = map[string]string{}
	p.inv.Versions[1].Labels = map[string]string{"a": "b"}
	return p
}

func inventoryBytes(t testing.TB, inv *Inventory) []byte {
	var b bytes.Buffer
	if err := inv.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInventoryFiles(t *testing.T) {
	p := someInventory(t)
	data := inventoryBytes(t, &p.inv)
	back, err := ReadInventory(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if back.Digest() != p.inv.Digest() || !bytes.Equal(inventoryBytes(t, back), data) {
		t.Error("it is not what was written")
	}
	for i, v := range back.Versions {
		was := p.inv.Versions[i]
		if (v.Manifest == nil) != (was.Manifest == nil) || v.Manifest != nil && !v.Manifest.Equal(was.Manifest) ||
			(v.Labels == nil) != (was.Labels == nil) || v.Unreadable != was.Unreadable || !v.Created.Equal(was.Created) {
			t.Errorf("%+v, was %+v", v, was)
		}
	}
	policy := rules(deleteTags(p, "pr-*"), deleteUntagged())
	a, err1 := Make(policy, &p.inv, Facts{}, today)
	b, err2 := Make(policy, back, Facts{}, today)
	if err1 != nil || err2 != nil || a.Digest != b.Digest || len(a.Needs)+len(b.Needs) == 0 {
		t.Errorf("%v, %v", err1, err2)
	}
	slices.Reverse(back.Versions)
	if back.Digest() != p.inv.Digest() || !bytes.Equal(inventoryBytes(t, back), data) {
		t.Error("it depends on the order of the versions")
	}
	back.Versions[0].Unreadable = "other"
	if back.Digest() == p.inv.Digest() {
		t.Error("two inventories have one digest")
	}
}

func TestAlteredInventoriesAreRefused(t *testing.T) {
	p := someInventory(t)
	data := string(inventoryBytes(t, &p.inv))
	lines := strings.SplitAfter(data, "\n")
	for name, tt := range map[string]struct {
		old, new string
		want     error
	}{
		"tag":              {`"pr-1"`, `"pr-0"`, oci.ErrIntegrity},
		"owner":            {`"acme"`, `"other"`, oci.ErrIntegrity},
		"manifest":         {`name\":\"child`, `name\":\"other`, oci.ErrIntegrity},
		"version left out": {lines[2], "", oci.ErrInvalid},
		"fewer":            {`"versions":11`, `"versions":10`, oci.ErrInvalid},
		"schema":           {`ghcr-inventory/1`, `ghcr-inventory/2`, oci.ErrInvalid},
		"unknown key":      {`{"id":1,`, `{"id":1,"x":1,`, oci.ErrInvalid},
		"two on a line":    {`{"id":1,`, `{"id":1}{"id":1,`, oci.ErrInvalid},
		"cut off":          {lines[len(lines)-2], "", oci.ErrInvalid},
		"more after it":    {lines[len(lines)-2], lines[len(lines)-2] + "{}", oci.ErrInvalid},
		"media type":       {`"mediaType":"application/vnd.oci.image.manifest.v1+json","manifest"`, `"manifest"`, oci.ErrInvalid},
		"not JSON":         {data, "x", oci.ErrInvalid},
		"nothing":          {data, "", oci.ErrInvalid},
	} {
		bad := strings.Replace(data, tt.old, tt.new, 1)
		if bad == data {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ReadInventory(strings.NewReader(bad)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := ReadInventory(io.MultiReader(strings.NewReader(lines[0]), failing{}))
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	p.inv.Versions[0].Manifest = p.inv.Versions[1].Manifest
	if err := p.inv.Write(io.Discard); !errors.Is(err, oci.ErrIntegrity) {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func FuzzReadInventory(f *testing.F) {
	f.Add(inventoryBytes(f, &someInventory(f).inv))
	f.Add(inventoryBytes(f, &Inventory{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, err := ReadInventory(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) && !errors.Is(err, oci.ErrIntegrity) {
				t.Fatal(err)
			}
			return
		}
		again, err := ReadInventory(bytes.NewReader(inventoryBytes(t, inv)))
		if err != nil || again.Digest() != inv.Digest() {
			t.Fatal(err)
		}
		if _, err := Make(releasesPolicy(t), inv, Facts{}, today); err != nil && !errors.Is(err, oci.ErrInvalid) {
			t.Fatal(err)
		}
	})
}
