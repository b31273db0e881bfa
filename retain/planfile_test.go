package retain

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// somePlan has actions of all kinds, something kept and something wrong.
func somePlan(t testing.TB) (*pkg, *Plan) {
	p := newPkg(t)
	child := p.image("child", "v1-amd64")
	p.index([]*Version{child}, "v1")
	p.sig(p.image("old", "pr-1"))
	p.image("two", "pr-2", "prod <&> ")
	p.image("orphan")
	lost := p.image("lost")
	p.index([]*Version{lost}, "ghost")
	p.lose(lost)
	save := Rule{Name: "save", Match: Match{Untagged: true}, Retag: "lost-{id}"}
	amd := deleteTags(p, "*-amd64")
	amd.Name, amd.Untag = "amd", &When{}
	prs := deleteTags(p, "pr-*")
	prs.Name, prs.Untag = "prs", &When{}
	plan := p.plan(rules(save, amd, prs, Rule{Name: "ghosts", Match: Match{Health: []Health{Ghost}}, Report: true}))
	if len(plan.Actions) != 5 || len(plan.Reports) != 1 || len(plan.Health) != 1 {
		t.Fatalf("%+v", plan)
	}
	return p, plan
}

func written(t testing.TB, plans ...*Plan) []byte {
	var b bytes.Buffer
	if err := WritePlans(&b, plans...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPlanFiles(t *testing.T) {
	p, plan := somePlan(t)
	plan.Tool = "ghcr 1.2.3"
	if err := plan.Seal(); err != nil {
		t.Fatal(err)
	}
	data := written(t, plan, plan)
	back, err := ReadPlans(bytes.NewReader(data))
	if err != nil || len(back) != 2 || back[1].Digest != plan.Digest || !bytes.Equal(written(t, back...), data) {
		t.Fatalf("%v, %v", back, err)
	}
	if err := back[0].Verify(today, &p.inv); err != nil {
		t.Error(err)
	}
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, data, "", "  "); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPlans(&spaced); err != nil {
		t.Errorf("with whitespace: %v", err)
	}
	if PlansDigest(plan) != plan.Digest || PlansDigest(plan, &Plan{}) != PlansDigest(&Plan{}, plan) {
		t.Error("what stands for several plans depends on their order")
	}
}

func TestAlteredPlansAreRefused(t *testing.T) {
	_, plan := somePlan(t)
	data := string(written(t, plan))
	for name, tt := range map[string]struct {
		old, new string
		want     error
	}{
		"another version":   {`"version":4,`, `"version":40,`, oci.ErrIntegrity},
		"another verb":      {`"do":"untag"`, `"do":"delete"`, oci.ErrIntegrity},
		"another digest":    {string(plan.Digest), string(emptyConfig), oci.ErrIntegrity},
		"unknown key":       {`"schema":"ghcr-plan/1"`, `"schema":"ghcr-plan/1","also":1`, oci.ErrInvalid},
		"key twice":         {`"owner":"acme"`, `"owner":"other","owner":"acme"`, oci.ErrInvalid},
		"key in upper case": {`"owner":"acme"`, `"Owner":"acme"`, oci.ErrInvalid},
		"another schema":    {`ghcr-plans/1`, `ghcr-plans/2`, oci.ErrInvalid},
		"cut off":           {`]}` + "\n", ``, oci.ErrInvalid},
		"more after it":     {`]}` + "\n", `]} {}`, oci.ErrInvalid},
		"no plan":           {`"plans":[`, `"plans":[null,`, oci.ErrInvalid},
	} {
		bad := strings.Replace(data, tt.old, tt.new, 1)
		if bad == data {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ReadPlans(strings.NewReader(bad)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Whoever can write the digest can't write nonsense either.
	for name, change := range map[string]func(p *Plan){
		"schema":          func(p *Plan) { p.Schema = "ghcr-plan/9" },
		"verb":            func(p *Plan) { p.Actions[0].Do = "burn" },
		"number":          func(p *Plan) { p.Actions[0].Version = 0 },
		"twice":           func(p *Plan) { p.Actions[0] = p.Actions[1] },
		"no digest":       func(p *Plan) { p.Actions[0].Digest = "latest" },
		"bad tag":         func(p *Plan) { p.Actions[0].On = "a b" },
		"not its own tag": func(p *Plan) { p.Actions[1].Off = []string{"v1"} },
		"nothing off":     func(p *Plan) { p.Actions[1].Off = nil },
		"delete and give": func(p *Plan) { p.Actions[4].On = "x" },
	} {
		_, plan := somePlan(t)
		change(plan)
		if err := plan.Seal(); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlans(bytes.NewReader(written(t, plan))); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlansAreForOnePackageAndTime(t *testing.T) {
	p, plan := somePlan(t)
	for name, tt := range map[string]struct {
		change func(inv *Inventory, plan *Plan, now *time.Time)
		want   error
	}{
		"good":            {func(*Inventory, *Plan, *time.Time) {}, nil},
		"almost expired":  {func(_ *Inventory, p *Plan, now *time.Time) { *now = p.Expires.Add(-1) }, nil},
		"expired":         {func(_ *Inventory, p *Plan, now *time.Time) { *now = p.Expires }, ErrExpired},
		"altered":         {func(_ *Inventory, p *Plan, _ *time.Time) { p.Actions = nil }, oci.ErrIntegrity},
		"another schema":  {func(_ *Inventory, p *Plan, _ *time.Time) { p.Schema = "" }, oci.ErrInvalid},
		"another host":    {func(inv *Inventory, _ *Plan, _ *time.Time) { inv.Host = "ghcr.example" }, oci.ErrInvalid},
		"another owner":   {func(inv *Inventory, _ *Plan, _ *time.Time) { inv.Owner = "other" }, oci.ErrInvalid},
		"upper case":      {func(inv *Inventory, _ *Plan, _ *time.Time) { inv.Owner = "ACME" }, nil},
		"another package": {func(inv *Inventory, _ *Plan, _ *time.Time) { inv.Package = "app2" }, oci.ErrInvalid},
		"a new package":   {func(inv *Inventory, _ *Plan, _ *time.Time) { inv.PackageID++ }, oci.ErrInvalid},
		"a new owner":     {func(inv *Inventory, _ *Plan, _ *time.Time) { inv.OwnerID++ }, oci.ErrInvalid},
		"numbers unknown": {func(inv *Inventory, _ *Plan, _ *time.Time) { inv.OwnerID, inv.PackageID = 0, 0 }, nil},
	} {
		inv, changed, now := p.inv, *plan, today
		tt.change(&inv, &changed, &now)
		if err := changed.Verify(now, &inv); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadPlans(f *testing.F) {
	_, plan := somePlan(f)
	f.Add(written(f, plan))
	f.Add([]byte(`{"schema":"ghcr-plans/1","plans":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		plans, err := ReadPlans(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) && !errors.Is(err, oci.ErrIntegrity) {
				t.Fatal(err)
			}
			return
		}
		again, err := ReadPlans(bytes.NewReader(written(t, plans...)))
		if err != nil || PlansDigest(again...) != PlansDigest(plans...) {
			t.Fatal(err)
		}
	})
}
