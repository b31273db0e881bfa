package ghcrtest

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// manifest returns the live version that a tag or digest names.
func (s *store) manifest(repo, ref string) *version {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	if p == nil {
		return nil
	}
	d := oci.Digest(ref)
	if !strings.Contains(ref, ":") {
		t := p.tags[ref]
		if t == nil {
			return nil
		}
		d = t.digest
	}
	return p.versions[d]
}

func (s *store) exists(repo string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.packages[repo] != nil
}

// public tells whether anybody may read a repository.
func (s *store) public(repo string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	return p != nil && p.visibility == Public
}

// hasBlob tells whether the repository has a blob, and whether a live manifest
// names it.
func (s *store) hasBlob(repo string, d oci.Digest) (has, referenced bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	if p == nil {
		return false, false
	}
	return p.blobs[d], p.refs[d] > 0
}

// holding lists the repositories that have a blob.
func (s *store) holding(d oci.Digest) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.holders[d]))
}

// missing lists the content that a manifest names and the repository lacks.
func (s *store) missing(repo string, m *oci.Manifest, children bool) []oci.Digest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	var list []oci.Digest
	for e := range m.Edges() {
		d := e.Descriptor.Digest
		switch e.Kind {
		case oci.EdgeConfig, oci.EdgeLayer:
			if !m.IsIndex() && (p == nil || !p.blobs[d]) && !oci.IsForeign(e.Descriptor) && !slices.Contains(list, d) {
				list = append(list, d)
			}
		case oci.EdgeChild:
			if children && (p == nil || p.versions[d] == nil) {
				list = append(list, d)
			}
		}
	}
	return list
}

// tags lists the tags of a repository in the order of the profile.
func (s *store) tags(repo string, lexical bool) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	if p == nil {
		return nil
	}
	list := slices.Collect(maps.Values(p.tags))
	slices.SortFunc(list, func(a, b *tag) int {
		if lexical {
			return cmp.Compare(a.name, b.name)
		}
		return cmp.Compare(a.seq, b.seq)
	})
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = t.name
	}
	return names
}

// referrers lists the live manifests whose subject is d.
func (s *store) referrers(repo string, d oci.Digest) []oci.Descriptor {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := []oci.Descriptor{}
	p := s.packages[repo]
	if p == nil {
		return list
	}
	for _, r := range p.subjects[d] {
		v := p.versions[r]
		desc := v.desc
		desc.Annotations = v.manifest.Annotations
		if desc.ArtifactType == "" && v.manifest.Config != nil {
			desc.ArtifactType = v.manifest.Config.MediaType
		}
		list = append(list, desc)
	}
	return list
}

func (s *store) repositories() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.packages))
}
