package ghcr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// view is a repository as it is now, for who is about to change it. Lists of the API
// come late (docs/quirks.md#rest-staleness), so which tag points where, and what is
// below the tags, is the registry's word; the API adds what has no tag, and numbers.
type view struct {
	graph    *oci.Graph
	tags     map[string]oci.Digest
	versions map[oci.Digest]*Version // none for a registry that is not GitHub's
}

// look reads a repository anew. It is sure to have what the references name, listed
// or not.
func (s *subject) look(ctx context.Context, refs []oci.ImageRef) (*view, error) {
	v := &view{versions: map[oci.Digest]*Version{}}
	var nodes []*oci.Node
	if s.api != nil {
		inv, err := s.inventory(ctx)
		if err != nil {
			return nil, err
		}
		for _, version := range inv.Versions {
			v.versions[version.Digest()] = version
			nodes = append(nodes, &oci.Node{Digest: version.Digest(), Manifest: version.Node.Manifest})
		}
	}
	// The tags are read after the list, so that what was pushed before is seen in one
	// of them.
	names, err := s.repo.TagNames(ctx)
	if err != nil && !(s.api != nil && errors.Is(err, ErrNotFound)) {
		return nil, err
	}
	if v.tags, err = s.resolveTags(ctx, names); err != nil {
		return nil, err
	}
	var roots []oci.Digest
	for _, ref := range refs {
		if d := cmp.Or(ref.Reference.Digest, v.tags[ref.Reference.Tag]); d != "" {
			roots = append(roots, d)
		}
	}
	wanted := slices.AppendSeq(slices.Clone(roots), maps.Values(v.tags))
	for _, n := range nodes {
		// A listed index may list what is not listed itself yet, or again.
		wanted = slices.AppendSeq(wanted, children(n.Manifest))
	}
	if nodes, err = s.walk(ctx, nodes, wanted); err != nil {
		return nil, err
	}
	if s.api == nil {
		if nodes, err = s.walkReferrers(ctx, nodes, roots); err != nil {
			return nil, err
		}
	}
	v.join(nodes)
	_, err = s.dropGone(ctx, v, roots)
	return v, err
}

// dropGone takes those manifests out that are only listed still, and tells whether
// there were any.
func (s *subject) dropGone(ctx context.Context, v *view, digests []oci.Digest) (bool, error) {
	gone := map[oci.Digest]bool{}
	for _, d := range digests {
		version, n := v.versions[d], v.graph.Node(d)
		if version == nil || len(n.Tags) > 0 {
			continue
		}
		_, err := s.api.Version(ctx, s.owner, s.name, version.ID)
		if ignoreNotFound(err) != nil {
			return false, err
		}
		if err != nil {
			gone[d] = true
		}
	}
	if len(gone) > 0 {
		v.drop(gone)
	}
	return len(gone) > 0, nil
}

func (v *view) join(nodes []*oci.Node) {
	tags := map[oci.Digest][]string{}
	for tag, d := range v.tags {
		tags[d] = append(tags[d], tag)
	}
	fresh := make([]*oci.Node, len(nodes))
	for i, n := range nodes {
		slices.Sort(tags[n.Digest])
		fresh[i] = &oci.Node{Digest: n.Digest, Manifest: n.Manifest, Tags: tags[n.Digest]}
	}
	v.graph = oci.NewGraph(fresh)
}

// drop takes out what turned out not to be there any more.
func (v *view) drop(gone map[oci.Digest]bool) {
	for d := range gone {
		delete(v.versions, d)
	}
	v.join(slices.DeleteFunc(slices.Clone(v.graph.Nodes()), func(n *oci.Node) bool { return gone[n.Digest] }))
}

// walk adds the wanted manifests and all that they list, level by level.
func (s *subject) walk(ctx context.Context, nodes []*oci.Node, wanted []oci.Digest) ([]*oci.Node, error) {
	have := map[oci.Digest]bool{}
	for _, n := range nodes {
		have[n.Digest] = true
	}
	for len(wanted) > 0 {
		var missing []oci.Digest
		for _, d := range wanted {
			if !have[d] {
				have[d] = true
				missing = append(missing, d)
			}
		}
		found := make([]*oci.Node, len(missing))
		err := each(ctx, len(missing), func(ctx context.Context, i int) error {
			m, err := s.manifest(ctx, missing[i])
			switch {
			case errors.Is(err, ErrNotFound):
				return nil
			case err != nil && !ofOneManifest(err):
				return err
			}
			found[i] = &oci.Node{Digest: missing[i], Manifest: m}
			return nil
		})
		if err != nil {
			return nil, err
		}
		wanted = nil
		for _, n := range found {
			if n == nil {
				continue
			}
			nodes = append(nodes, n)
			wanted = slices.AppendSeq(wanted, children(n.Manifest))
		}
	}
	return nodes, nil
}

// children are the manifests that a manifest lists, as far as it could be read.
func children(m *oci.Manifest) iter.Seq[oci.Digest] {
	return func(yield func(oci.Digest) bool) {
		if m == nil {
			return
		}
		for e := range m.Edges() {
			if e.Kind == oci.EdgeChild && !yield(e.Descriptor.Digest) {
				return
			}
		}
	}
}

// unread is why a manifest could not be read.
func (v *view) unread(d oci.Digest) error {
	if version := v.versions[d]; version != nil && version.Unreadable != nil {
		return version.Unreadable
	}
	return fmt.Errorf("manifest %s could not be read", d)
}

// orphans are what has no tag and does not go, and that nothing which stays lists or is
// known to be about.
func (v *view) orphans(gone []*oci.Node) (list []oci.Digest) {
	for _, n := range v.graph.Nodes() {
		if len(n.Tags)+len(n.Parents)+len(n.Subjects) == 0 && !slices.Contains(gone, n) {
			list = append(list, n.Digest)
		}
	}
	return list
}

// walkReferrers adds what refers to the roots and to what they list, which no list
// of versions shows here.
func (s *subject) walkReferrers(ctx context.Context, nodes []*oci.Node, roots []oci.Digest) ([]*oci.Node, error) {
	asked := map[oci.Digest]bool{}
	for todo := roots; len(todo) > 0; {
		d := todo[0]
		todo = todo[1:]
		i := slices.IndexFunc(nodes, func(n *oci.Node) bool { return n.Digest == d })
		if asked[d] || i < 0 {
			continue
		}
		asked[d] = true
		if m := nodes[i].Manifest; m != nil {
			for _, child := range m.Manifests {
				todo = append(todo, child.Digest)
			}
		}
		referrers, err := s.repo.Referrers(ctx, d)
		if err != nil {
			return nil, err
		}
		var found []oci.Digest
		for _, r := range referrers {
			found = append(found, r.Digest)
		}
		if nodes, err = s.walk(ctx, nodes, found); err != nil {
			return nil, err
		}
		todo = append(todo, found...)
	}
	return nodes, nil
}
