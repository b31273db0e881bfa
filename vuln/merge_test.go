package vuln

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func found(id, purl string, aliases ...string) Vulnerability {
	return Vulnerability{ID: id, Aliases: aliases, Package: newPackage(Package{PURL: purl})}
}

func ids(list []Vulnerability) string {
	var out []string
	for _, v := range list {
		out = append(out, strings.Join(v.IDs(), "="))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestAliasesAreJoined(t *testing.T) {
	const lodash = "pkg:npm/lodash@4.17.20"
	for name, c := range map[string]struct {
		list []Vulnerability
		want string
	}{
		"CVE, GHSA and a vendor's": {
			[]Vulnerability{found("GHSA-2222-3333-4444", lodash, "CVE-2026-1"), found("CVE-2026-1", lodash, "SNYK-1"), found("SNYK-1", lodash)},
			"CVE-2026-1=GHSA-2222-3333-4444=SNYK-1",
		},
		"by a chain":             {[]Vulnerability{found("A-1", lodash, "B-1"), found("C-1", lodash, "B-1"), found("C-1", lodash, "GHSA-2222-3333-4444")}, "GHSA-2222-3333-4444=A-1=B-1=C-1"},
		"case is the same":       {[]Vulnerability{found("cve-2026-1", lodash), found("CVE-2026-1", lodash)}, "CVE-2026-1=cve-2026-1"},
		"other packages are not": {[]Vulnerability{found("CVE-2026-1", lodash), found("CVE-2026-1", "pkg:npm/underscore@1.0.0")}, "CVE-2026-1 CVE-2026-1"},
		"other versions are not": {[]Vulnerability{found("CVE-2026-1", lodash), found("CVE-2026-1", "pkg:npm/lodash@3.0.0")}, "CVE-2026-1 CVE-2026-1"},
		"qualifiers are dropped": {[]Vulnerability{found("CVE-2026-1", lodash+"?arch=x"), found("CVE-2026-1", lodash)}, "CVE-2026-1"},
		"the epoch is part of the version": {
			[]Vulnerability{found("CVE-2026-1", "pkg:deb/debian/zlib1g@1.2?epoch=1"), found("CVE-2026-1", "pkg:deb/debian/zlib1g@1%3A1.2")}, "CVE-2026-1",
		},
		"an advisory of two flaws joins them not": {
			[]Vulnerability{found("CVE-2026-1", lodash, "DSA-1"), found("CVE-2026-2", lodash, "DSA-1")}, "CVE-2026-1=DSA-1 CVE-2026-2=DSA-1",
		},
		"a finding of two flaws is added to both": {
			[]Vulnerability{found("ALAS-1", lodash, "CVE-2026-1", "CVE-2026-2"), found("CVE-2026-1", lodash), found("CVE-2026-2", lodash)}, "CVE-2026-1 CVE-2026-2",
		},
		"two of those are one only if they have the same": {
			[]Vulnerability{found("ALAS-1", lodash, "CVE-2026-1", "CVE-2026-2"), found("ALAS-1", lodash, "CVE-2026-1", "CVE-2026-2"), found("ALAS-2", lodash, "CVE-2026-2", "CVE-2026-3")},
			"ALAS-1=CVE-2026-1=CVE-2026-2 ALAS-2=CVE-2026-2=CVE-2026-3",
		},
		"and stands alone without them": {[]Vulnerability{found("ALAS-1", lodash, "CVE-2026-1", "CVE-2026-2")}, "ALAS-1=CVE-2026-1=CVE-2026-2"},
		"a finding without a package is added": {
			[]Vulnerability{{ID: "CVE-2026-1"}, found("CVE-2026-1", lodash)}, "CVE-2026-1",
		},
		"one by name and version is the same package": {
			[]Vulnerability{{ID: "CVE-2026-1", Package: &Package{Name: "lodash", Version: "4.17.20"}}, found("CVE-2026-1", lodash)}, "CVE-2026-1",
		},
		"unless two ecosystems have it": {
			[]Vulnerability{{ID: "CVE-2026-1", Package: &Package{Name: "lodash", Version: "4.17.20"}}, found("CVE-2026-1", lodash), found("CVE-2026-1", "pkg:pypi/lodash@4.17.20")},
			"CVE-2026-1 CVE-2026-1 CVE-2026-1",
		},
		"without any package": {[]Vulnerability{{ID: "CVE-2026-1"}, {ID: "GHSA-2222-3333-4444", Aliases: []string{"CVE-2026-1"}}}, "CVE-2026-1=GHSA-2222-3333-4444"},
	} {
		if got := ids(mergeFindings(c.list)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestMergeDoesNotDependOnOrder also checks that nothing is lost: each id of each
// finding is still known.
func TestMergeDoesNotDependOnOrder(t *testing.T) {
	list := []Vulnerability{}
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"CVE-2026-1", "CVE-2026-2", "CVE-2026-3", "GHSA-2222-3333-4444", "GHSA-3333-4444-5555", "X-1", "X-2", "X-3"}
	for range 60 {
		v := found(names[random.IntN(len(names))], []string{"pkg:npm/a@1", "pkg:npm/b@1", "pkg:npm/a@2"}[random.IntN(3)])
		if random.IntN(2) == 0 {
			v.Aliases = []string{names[random.IntN(len(names))]}
		}
		list = append(list, v)
	}
	key := func(list []Vulnerability) []string {
		var out []string
		for _, v := range mergeFindings(list) {
			aliases := slices.Sorted(slices.Values(v.IDs()))
			out = append(out, v.Package.PURL+" "+strings.Join(aliases, "="))
			if got := cves(v.IDs()); len(got) > 1 && len(cves([]string{v.ID, v.Aliases[0]})) > 1 {
				// Only a finding that itself names two flaws has two CVEs.
				if !slices.ContainsFunc(list, func(o Vulnerability) bool { return reflect.DeepEqual(cves(o.IDs()), got) }) {
					t.Errorf("joined %v", got)
				}
			}
		}
		slices.Sort(out)
		return out
	}
	want := key(list)
	for range 50 {
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if got := key(list); !slices.Equal(got, want) {
			t.Fatalf("another order gives\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestMergeChangesNoInput(t *testing.T) {
	list := []Vulnerability{found("CVE-2026-1", "pkg:npm/a@1"), found("CVE-2026-1", "pkg:npm/a@1", "X-1")}
	list[0].Package.Path, list[1].Package.Path = "p", "q"
	before := list[0].clone()
	if got := mergeFindings(list)[0].Package.allPaths(); !slices.Equal(got, []string{"p", "q"}) {
		t.Errorf("paths %q", got)
	}
	if !reflect.DeepEqual(list[0], before) {
		t.Errorf("the input is now %+v", list[0])
	}
}

// TestManyFindings: what the hostile write must not take the time of their square. It
// would not end within the time of a test.
func TestManyFindings(t *testing.T) {
	const n = 6000
	list := make([]Vulnerability, 0, 4*n)
	var vex VEX
	for i := range n {
		same := found("CVE-2026-1", fmt.Sprintf("pkg:npm/p%d@1", i))
		ambiguous := found("DSA-1", "pkg:npm/a@1")
		list = append(list, same, found(fmt.Sprintf("CVE-2026-%d", i), "pkg:npm/a@1", "DSA-1"), ambiguous,
			Vulnerability{ID: "CVE-2026-1"}, Vulnerability{ID: "CVE-2026-1", Package: &Package{Name: fmt.Sprintf("p%d", i)}})
		vex.Statements = append(vex.Statements, VEXStatement{IDs: []string{fmt.Sprintf("CVE-2026-%d", i)}, Status: VEXUnderInvestigation, Products: []VEXProduct{{IDs: []string{hexDigest("1").String()}}}})
	}
	list[0].References = slices.Repeat([]string{"x"}, n)
	for i := range list[0].References {
		list[0].References[i] = fmt.Sprint(i)
	}
	target := testTarget(t)
	r := assemble([]SourceReport{{Name: SourceAttestation, VEX: []VEX{vex}, Scans: []Scan{{Link: LinkDigest, Subject: target.Digest, Findings: list}}}}, target, Options{})
	if len(r.Vulnerabilities) != 2*n {
		t.Errorf("%d findings", len(r.Vulnerabilities))
	}
	if d := Compare(r, r); len(d.Unchanged) != 2*n {
		t.Errorf("%d unchanged", len(d.Unchanged))
	}
}
