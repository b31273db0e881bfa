package oci

import (
	"slices"
	"strings"
)

// ParsePlatform reads "os/arch[/variant]", or with os.version
// "windows/amd64:10.0.20348". Common other spellings of an architecture are
// understood: x86_64, aarch64, armhf.
//
// Errors: [ErrInvalid].
func ParsePlatform(s string) (Platform, error) {
	body, version, _ := strings.Cut(s, ":")
	parts := strings.Split(strings.ToLower(body), "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return Platform{}, Invalid("malformed platform %q: want OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64", s)
	}
	p := Platform{OS: parts[0], Architecture: parts[1], OSVersion: version}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return normalPlatform(p), nil
}

// FormatPlatform is the inverse of [ParsePlatform].
func FormatPlatform(p Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	if p.OSVersion != "" {
		s += ":" + p.OSVersion
	}
	return s
}

// normalPlatform gives each platform its one spelling: arm64 has variant v8
// unless it says otherwise, arm v7, and amd64 v1 is plain amd64.
func normalPlatform(p Platform) Platform {
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "i386":
		p.Architecture = "386"
	}
	switch {
	case p.Architecture == "arm64" && (p.Variant == "v8" || p.Variant == "8"):
		p.Variant = ""
	case p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant != "" && p.Variant[0] != 'v':
		p.Variant = "v" + p.Variant
	}
	return p
}

// SelectPlatform picks the entry of an index that suits want best: the same
// variant, else the highest variant that want's processor also runs. Entries
// without a real platform, such as BuildKit's attestations, are never picked.
//
// Errors: [ErrInvalid], naming the platforms that there are.
func SelectPlatform(entries []Descriptor, want Platform) (Descriptor, error) {
	want = normalPlatform(want)
	best, bestRank := -1, 0
	for i, d := range entries {
		if rank := platformRank(d, want); rank > bestRank {
			best, bestRank = i, rank
		}
	}
	if best >= 0 {
		return entries[best], nil
	}
	var have []string
	for _, d := range entries {
		if HasPlatform(d) {
			have = append(have, FormatPlatform(*d.Platform))
		}
	}
	if len(have) == 0 {
		return Descriptor{}, Invalid("no platform %s: the index names no platforms", FormatPlatform(want))
	}
	slices.Sort(have)
	return Descriptor{}, Invalid("no platform %s: there are %s", FormatPlatform(want), strings.Join(slices.Compact(have), ", "))
}

// HasPlatform tells whether an index entry is for a real platform. BuildKit
// lists its attestations as unknown/unknown.
func HasPlatform(d Descriptor) bool {
	return d.Platform != nil && d.Platform.OS != "" && d.Platform.OS != "unknown" && d.Platform.Architecture != "unknown"
}

// platformRank is 0 for an entry that want cannot run, and grows with how well it
// fits.
func platformRank(d Descriptor, want Platform) int {
	if !HasPlatform(d) {
		return 0
	}
	have := normalPlatform(*d.Platform)
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	// A Windows container runs on its own build of Windows: 10.0.20348 fits
	// 10.0.20348.1726, and not the other way round.
	if want.OSVersion != "" && have.OSVersion != want.OSVersion && !strings.HasPrefix(have.OSVersion, want.OSVersion+".") {
		return 0
	}
	for _, f := range want.OSFeatures {
		if !slices.Contains(have.OSFeatures, f) {
			return 0
		}
	}
	if have.Variant == want.Variant {
		return 100
	}
	return variantRank(want, have.Variant)
}

// variantRank says how well a variant other than the wanted one will do. Newer
// processors run code for older ones of the same family.
func variantRank(want Platform, have string) int {
	order := map[string][]string{
		"arm":   {"v5", "v6", "v7", "v8"},
		"amd64": {"", "v2", "v3", "v4"},
	}[want.Architecture]
	wanted := want.Variant
	if wanted == "" && want.Architecture == "arm" {
		wanted = "v7"
	}
	if have == "" && want.Architecture == "arm" {
		have = "v7"
	}
	w, h := slices.Index(order, wanted), slices.Index(order, have)
	if w < 0 || h < 0 || h > w {
		return 0
	}
	return 50 + h
}
