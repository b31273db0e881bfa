package vuln

import (
	"slices"
	"testing"

	packageurl "github.com/package-url/packageurl-go"
)

// ordered checks that a list is in order, each version before all that follow.
func ordered(t *testing.T, kind string, list ...string) {
	t.Helper()
	for i, a := range list {
		for j, b := range list {
			want := max(-1, min(1, i-j))
			if got, ok := compareVersions(kind, a, b); got != want || !ok {
				t.Errorf("%s %s and %s: %d %t, want %d", kind, a, b, got, ok, want)
			}
		}
	}
}

// TestDebianPolicy: the rules of section 5.6.12 of Debian's policy, with its examples.
func TestDebianPolicy(t *testing.T) {
	ordered(t, "deb", "1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+", "1.0.1")
	ordered(t, "deb", "1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-2", "1.0-10")
	ordered(t, "deb", "9.9-9", "1:0.1", "1:0.2", "2:0.1")
	ordered(t, "deb", "3.0.11-1~deb12u2", "3.0.13-1~bpo12+1", "3.0.13-1~deb12u1", "3.0.13-1", "3.0.13-1ubuntu0.1")
	ordered(t, "deb", "20240101000000000000000001", "20240101000000000000000002") // larger than a word
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.0", "1.0-0"}, {"1.002", "1.2"}, {"1.0-1", "1.00-01"}} {
		if got, ok := compareVersions("deb", same[0], same[1]); got != 0 || !ok {
			t.Errorf("%q: %d %t", same, got, ok)
		}
	}
}

// TestRPMVersion: the rules of rpm-version(7), with its examples and those of rpm's own tests.
func TestRPMVersion(t *testing.T) {
	ordered(t, "rpm", "1.0~rc1", "1.0~rc2", "1.0", "1.0^git1", "1.0^git2", "1.0.1~rc1", "1.0.1")
	ordered(t, "rpm", "1.0~rc1^git1", "1.0")
	ordered(t, "rpm", "1.0^git1~pre", "1.0^git1", "1.01")
	ordered(t, "rpm", "1.a", "1.b", "1.0", "1.1", "1.10") // digits are after letters
	ordered(t, "rpm", "5.5p1", "5.5p2", "5.5p10", "5.6")
	ordered(t, "rpm", "10xyz", "10.1xyz")
	ordered(t, "rpm", "xyz.4", "8", "8.1")
	ordered(t, "rpm", "3.0.7-6.el9", "3.0.7-6.el9_2", "3.0.7-16.el9")
	ordered(t, "rpm", "1:1.1.1k-6.el8_5", "1:1.1.1k-7.el8_6", "2:0.1-1")
	for _, same := range [][2]string{{"2.0.1", "2_0_1"}, {"1.05", "1.5"}, {"1.0", "1..0"}, {"fc4-1", "fc.4-1"}, {"0:1.0-1", "1.0-1"}} {
		if got, ok := compareVersions("rpm", same[0], same[1]); got != 0 || !ok {
			t.Errorf("%q: %d %t", same, got, ok)
		}
	}
}

// TestAPKVersion: the rules of apk-package(5), with its order of suffixes.
func TestAPKVersion(t *testing.T) {
	ordered(t, "apk", "1.2_alpha", "1.2_alpha2", "1.2_beta", "1.2_pre", "1.2_rc1", "1.2_rc10", "1.2", "1.2-r0", "1.2-r1", "1.2-r10", "1.2_cvs", "1.2_svn",
		"1.2_git20240101", "1.2_hg", "1.2_p1", "1.2_p1_p2", "1.2a", "1.2b", "1.2.1", "1.10")
	ordered(t, "apk", "1.01", "1.1") // as digits after a point
	ordered(t, "apk", "1.1_pre1_rc1", "1.1_pre1", "1.1_pre2")
	ordered(t, "apk", "3.1.4-r5", "3.1.4-r6", "3.3.0-r0")
	ordered(t, "apk", "20240101000000000000000001", "20240101000000000000000002")
	ordered(t, "apk", "1.0_git1~0a", "1.0_git1~0b-r1", "1.0_git1~1")
}

// TestVersionsThatBreakTheRules are not compared, which is not "no".
func TestVersionsThatBreakTheRules(t *testing.T) {
	for kind, list := range map[string][]string{
		"deb":  {"<unfixed>", "", "-1", "a1", "1.0 beta", "1:", "1.0-a_b", "1.0-é"},
		"rpm":  {"", "-1", "1.0 beta", "1.0/2", "1.0-1-2"},
		"apk":  {"", ".1", "1.", "1_x", "1_rc1a", "1-r", "1-1", "1~", "1~xyz", "1.2B", "1a2"},
		"alpm": {"1.1-1"},
	} {
		for _, v := range list {
			if _, ok := compareVersions(kind, v, "1.0"); ok {
				t.Errorf("%s %q was compared", kind, v)
			}
		}
	}
	// The advisory names an epoch that the package does not, or the other way round; or no release.
	for _, c := range [][2]string{{"1.1.1k-6", "1:1.1.1k-7"}, {"1:1.1.1k-9", "1.1.1k-7"}, {"1.1.1k-9", "1.1.1k"}} {
		if _, ok := compareVersions("rpm", c[0], c[1]); ok {
			t.Errorf("rpm %q were compared", c)
		}
	}
}

// TestAdvisoriesOfDistributions: they are about the version of the source, with its epoch,
// and those of Debian, Alpine and the like have ranges.
func TestAdvisoriesOfDistributions(t *testing.T) {
	for name, c := range map[string]struct {
		purl, ecosystem, source, fixed string
		want                           Match
	}{
		"before it is fixed":              {"pkg:deb/debian/libssl3@3.0.11-1~deb12u2?distro=debian-12.4&upstream=openssl", "Debian:12", "openssl", "3.0.13-1~deb12u1", MatchYes},
		"fixed":                           {"pkg:deb/debian/libssl3@3.0.13-1~deb12u1?distro=debian-12.4&upstream=openssl", "Debian:12", "openssl", "3.0.13-1~deb12u1", MatchNo},
		"the source has another version":  {"pkg:deb/debian/gcc@4:12.2.0-3?distro=debian-12&upstream=gcc-defaults%401.203", "Debian:12", "gcc-defaults", "1.204", MatchYes},
		"the epoch is beside the version": {"pkg:deb/debian/zlib1g@1.2.13?epoch=1&distro=debian-12&upstream=zlib", "Debian:12", "zlib", "1:1.2.13", MatchNo},
		"Alpine, before it is fixed":      {"pkg:apk/alpine/openssl@3.1.4-r5?distro=alpine-3.18.4", "Alpine:v3.18", "openssl", "3.1.4-r6", MatchYes},
		"Alpine, fixed":                   {"pkg:apk/alpine/openssl@3.1.4-r10?distro=alpine-3.18.4", "Alpine:v3.18", "openssl", "3.1.4-r6", MatchNo},
		"AlmaLinux":                       {"pkg:rpm/almalinux/openssl@1.1.1k-6.el8_5?epoch=1&distro=almalinux-8.5", "AlmaLinux:8", "openssl", "1:1.1.1k-7.el8_6", MatchYes},
		"AlmaLinux, who knows the epoch":  {"pkg:rpm/almalinux/openssl@1.1.1k-9.el8_5?distro=almalinux-8.5", "AlmaLinux:8", "openssl", "1:1.1.1k-7.el8_6", MatchUnknown},
	} {
		a := Advisory{Affected: []Affected{{Ecosystem: c.ecosystem, Name: c.source, Ranges: []VersionRange{{To: c.fixed, ToExcluded: true}}}}}
		if got, _ := a.Affects(*newPackage(Package{PURL: c.purl})); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestSourceBesideThePURL: Trivy says what a package is built from beside its purl, and
// advisories are about that.
func TestSourceBesideThePURL(t *testing.T) {
	const openssl = "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12.4"
	cyclone := func(purl, version, properties string) string {
		return `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","bom-ref":"a","name":"x","version":"` + version + `","purl":"` + purl + `","properties":[` + properties + `]}]}`
	}
	src := func(key, value string) string {
		return `{"name":"aquasecurity:trivy:Src` + key + `","value":"` + value + `"}`
	}
	for name, c := range map[string]struct{ text, want, version string }{
		"CycloneDX": {cyclone(openssl, "3.0.11-1~deb12u2", src("Name", "openssl")+","+src("Version", "3.0.11")+","+src("Release", "1~deb12u2")), "openssl", "3.0.11-1~deb12u2"},
		"CycloneDX, of another version": {
			cyclone("pkg:deb/debian/gcc@4%3A12.2.0-3?distro=debian-12", "4:12.2.0-3", src("Name", "gcc-defaults")+","+src("Version", "1.203")), "gcc-defaults@1.203", "1.203"},
		"CycloneDX, with an epoch": {
			cyclone("pkg:deb/debian/zlib1g@1.2.13?distro=debian-12&epoch=1", "1:1.2.13", src("Name", "zlib")+","+src("Version", "1.2.13")+","+src("Epoch", "1")), "zlib", "1:1.2.13"},
		"of itself":            {cyclone("pkg:apk/alpine/zlib@1.3-r0?distro=3.18.4", "1.3-r0", src("Name", "zlib")+","+src("Version", "1.3-r0")), "", "1.3-r0"},
		"it is in the purl":    {cyclone(openssl+"&upstream=other", "3.0.11-1~deb12u2", src("Name", "openssl")+","+src("Version", "1")), "other", "3.0.11-1~deb12u2"},
		"no distribution's":    {cyclone("pkg:npm/a@1", "1", src("Name", "b")+","+src("Version", "2")), "", "1"},
		"SPDX":                 {`{"spdxVersion":"SPDX-2.3","packages":[{"name":"x","versionInfo":"3.0.11-1~deb12u2","sourceInfo":"built package from: openssl 3.0.11-1~deb12u2","externalRefs":[{"referenceType":"purl","referenceLocator":"` + openssl + `"}]}]}`, "openssl", "3.0.11-1~deb12u2"},
		"SPDX, something else": {`{"spdxVersion":"SPDX-2.3","packages":[{"name":"x","versionInfo":"3.0.11-1~deb12u2","sourceInfo":"acquired from apt","externalRefs":[{"referenceType":"purl","referenceLocator":"` + openssl + `"}]}]}`, "", "3.0.11-1~deb12u2"},
	} {
		doc, err := Parse([]byte(c.text), "")
		if err != nil || len(doc.SBOM.Packages) != 1 {
			t.Fatalf("%s: %+v, %v", name, doc, err)
		}
		p := doc.SBOM.Packages[0]
		u, err := packageurl.FromString(p.PURL)
		if got := u.Qualifiers.Map()["upstream"]; err != nil || got != c.want || p.source() != c.version {
			t.Errorf("%s: built from %q, version %s, want %q, %s: %v", name, got, p.source(), c.want, c.version, err)
		}
	}
}

// FuzzCompareVersions: an order is one, whatever is compared: the other way round it is the
// other way round, and nothing is before itself.
func FuzzCompareVersions(f *testing.F) {
	for _, v := range []string{"1:1.0~rc1-1+b2", "1.0^git1-3.el9", "1.2.3b_rc1~0a1b-r4", "<unfixed>", "~", "^", "00"} {
		f.Add(v, "1.0-1")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, kind := range []string{"deb", "rpm", "apk"} {
			there, ok := compareVersions(kind, a, b)
			back, ok2 := compareVersions(kind, b, a)
			if there != -back || ok != ok2 || !slices.Contains([]int{-1, 0, 1}, there) {
				t.Errorf("%s %q and %q: %d %t, and back %d %t", kind, a, b, there, ok, back, ok2)
			}
		}
	})
}
