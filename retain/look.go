package retain

import (
	"maps"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// looksLike goes by what manifests say.
func (p *planner) looksLike(r *compiledRule, i int) truth {
	it, m := &p.items[i], &r.Match
	if len(m.Health) > 0 && it.unreadable != "" && slices.Contains(m.Health, Unreadable) {
		return isTrue(len(m.Roles)+len(m.MediaTypes)+len(m.ArtifactTypes)+len(m.Annotations)+len(m.Labels)+len(m.Platforms) == 0 && m.LargerThan+m.SmallerThan == 0)
	}
	man := it.node.Manifest
	if man == nil {
		p.want(i)
		return unknown
	}
	if len(m.Roles) > 0 && !slices.Contains(m.Roles, it.node.Role()) ||
		len(m.MediaTypes) > 0 && !slices.Contains(m.MediaTypes, man.MediaType) ||
		len(m.ArtifactTypes) > 0 && !slices.Contains(m.ArtifactTypes, artifactType(man)) ||
		len(m.Health) > 0 && !slices.ContainsFunc(p.ailments(i), func(h Health) bool { return slices.Contains(m.Health, h) }) {
		return no
	}
	for key, pattern := range m.Annotations {
		if value, ok := man.Annotations[key]; !ok || !pattern.Match(value) {
			return no
		}
	}
	t := yes
	if len(m.Platforms) > 0 {
		t = p.runsOn(i, r.platforms)
	}
	if t != no && (m.LargerThan > 0 || m.SmallerThan > 0) {
		size, ok := p.size(i)
		switch {
		case !ok:
			t = unknown
		case m.LargerThan > 0 && size <= m.LargerThan, m.SmallerThan > 0 && size >= m.SmallerThan:
			t = no
		}
	}
	if t != no && len(m.Labels) > 0 {
		t = min(t, p.labelled(i, m.Labels))
	}
	return t
}

// artifactType is what a manifest is of: an image manifest that does not say so is of
// the type of its config.
func artifactType(m *oci.Manifest) string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}

// leaves returns the images that a version consists of: itself, or those that an index
// lists at any depth, without attestations. It is false if not all are known.
func (p *planner) leaves(i int) (list []int, ok bool) {
	ok = true
	seen := map[int]bool{i: true}
	for todo := []int{i}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := p.items[at].node
		switch {
		case n.Attests != nil && at != i:
		case n.Manifest == nil && !p.items[at].leaf: // it may be an index
			p.want(at)
			ok = false
		case n.Manifest != nil && n.Manifest.IsIndex():
			ok = ok && len(n.Missing) == 0
			for _, child := range n.Children {
				if c := p.at[child]; !seen[c] {
					seen[c] = true
					todo = append(todo, c)
				}
			}
		default:
			list = append(list, at)
		}
	}
	return list, ok
}

// platformsOf returns what a version runs on, each once and sorted; it is false where
// an image has none that is known.
func (p *planner) platformsOf(i int) (list []string, ok bool) {
	leaves, ok := p.leaves(i)
	for _, at := range leaves {
		platform := p.items[at].node.Platform
		if platform == nil {
			p.asked = p.asked || p.unread // an index that is not read yet may say it
			ok = false
			continue
		}
		normal, err := oci.ParsePlatform(oci.FormatPlatform(*platform))
		if err != nil {
			ok = false
			continue
		}
		list = append(list, oci.FormatPlatform(normal))
	}
	slices.Sort(list)
	return slices.Compact(list), ok
}

// runsOn tells whether all platforms of a version are among those listed.
func (p *planner) runsOn(i int, listed []string) truth {
	have, ok := p.platformsOf(i)
	for _, platform := range have {
		if !slices.Contains(listed, platform) {
			return no
		}
	}
	if !ok || len(have) == 0 {
		return unknown
	}
	return yes
}

// labelled tells whether the configs of all images of a version have the labels.
func (p *planner) labelled(i int, want map[string]Pattern) truth {
	leaves, ok := p.leaves(i)
	t := isTrue(len(leaves) > 0)
	if !ok && (t == yes || p.asked) {
		t = unknown
	}
	for _, at := range leaves {
		it := &p.items[at]
		switch man := it.node.Manifest; {
		case man == nil:
			p.want(at)
			t = min(t, unknown)
		case man.Kind() != oci.KindImage:
			return no
		case it.Labels == nil:
			if it.Unreadable == "" && it.unreadable == "" {
				p.labels[at], p.asked = true, true
			}
			t = min(t, unknown)
		default:
			for _, key := range slices.Sorted(maps.Keys(want)) {
				pattern := want[key]
				if value, ok := it.Labels[key]; !ok || !pattern.Match(value) {
					return no
				}
			}
		}
	}
	return t
}
