package retain

import (
	"maps"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// model is another way to say what may go, as plainly as it can be said and without a
// care for time: it strikes from the list of what could go until nothing more is
// struck.
func model(policy *Policy, seen *Inventory) map[oci.Digest]bool {
	of := truths(seen)
	listed := map[oci.Digest]*Version{}
	for i := range seen.Versions {
		listed[seen.Versions[i].Digest] = &seen.Versions[i]
	}
	parents, subjects := map[oci.Digest][]oci.Digest{}, map[oci.Digest][]oci.Digest{}
	described := map[oci.Digest]bool{} // as no index
	for _, v := range seen.Versions {
		if v.Manifest == nil {
			for _, s := range of[v.Digest].subjects {
				if listed[s] != nil {
					subjects[v.Digest] = append(subjects[v.Digest], s)
				}
			}
			continue
		}
		for _, d := range v.Manifest.Manifests {
			if listed[d.Digest] != nil && oci.IsManifestType(d.MediaType) {
				parents[d.Digest] = append(parents[d.Digest], v.Digest)
				described[d.Digest] = !oci.IsIndexType(d.MediaType)
			}
		}
		for _, s := range of[v.Digest].subjects {
			if listed[s] != nil {
				subjects[v.Digest] = append(subjects[v.Digest], s)
			}
		}
	}
	own := func(v *Version) bool {
		return slices.ContainsFunc(v.Tags, func(tag string) bool {
			d, _, ok := oci.ParseDigestTag(tag)
			return !ok || d == v.Digest
		})
	}
	part := func(v *Version) bool { return !own(v) && len(parents[v.Digest])+len(subjects[v.Digest]) > 0 }
	known := func(v *Version) bool { return v.Manifest != nil && v.Manifest.Kind() != oci.KindUnknown }
	about := func(v *Version, r *Rule, one bool) truth {
		m := &r.Match
		t := yes
		if m.OlderThan > 0 {
			if v.Created.IsZero() {
				t = unknown
			} else if today.Sub(v.Created) < m.OlderThan {
				return no
			}
		}
		switch {
		case m.Untagged:
			if len(v.Tags) > 0 || part(v) {
				return no
			}
		case len(m.Health) > 0:
			if v.Manifest == nil {
				return min(t, unknown)
			}
			if own(v) || len(of[v.Digest].subjects) == 0 || len(subjects[v.Digest]) > 0 {
				return no
			}
		default:
			hits := 0
			for _, tag := range v.Tags {
				if m.Tags[0].Match(tag) {
					hits++
				}
			}
			if hits == 0 || hits < len(v.Tags) && !m.Any && !one {
				return no
			}
		}
		return t
	}
	stays := map[oci.Digest]bool{}
	for i := range seen.Versions {
		v := &seen.Versions[i]
		young := adrift(v, listed) && (v.Created.IsZero() || today.Sub(v.Created) < policy.Rails.Grace)
		tags := slices.ContainsFunc(v.Tags, func(tag string) bool {
			return slices.ContainsFunc(policy.Protect.Tags, func(p Pattern) bool { return p.Match(tag) })
		})
		stays[v.Digest] = young || tags || !known(v) || slices.Contains(policy.Protect.Digests, v.Digest)
		// A manifest that can't be read may list what has no tag, and what is older.
		for _, b := range seen.Versions {
			if b.Manifest == nil && !described[b.Digest] && b.Digest != v.Digest &&
				(len(v.Tags) == 0 || v.Created.IsZero() || b.Created.IsZero() || !v.Created.After(b.Created)) {
				stays[v.Digest] = true
			}
		}
	}
	for i := range policy.Rules {
		r := &policy.Rules[i]
		if r.Keep == nil {
			continue
		}
		var ranked []*Version
		for j := range seen.Versions {
			v := &seen.Versions[j]
			if part(v) && len(r.Match.Tags) == 0 {
				continue
			}
			switch t := about(v, r, true); {
			case t == no:
			case t == unknown || !known(v) || v.Created.IsZero() || today.Sub(v.Created) < r.Keep.Within:
				stays[v.Digest] = true
			case part(v), !own(v) && len(v.Tags) > 0 && len(of[v.Digest].subjects) > 0:
			default:
				ranked = append(ranked, v)
			}
		}
		slices.SortFunc(ranked, func(a, b *Version) int {
			if c := b.Created.Compare(a.Created); c != 0 {
				return c
			}
			return int(b.ID - a.ID)
		})
		left := r.Keep.Last
		for _, v := range ranked {
			if left > 0 {
				stays[v.Digest] = true
			}
			missing, there := 0, 0
			for _, d := range v.Manifest.Manifests {
				switch {
				case listed[d.Digest] != nil:
					there++
				case oci.IsManifestType(d.MediaType):
					missing++
				}
			}
			ghost := missing > 0 && there == 0
			if len(of[v.Digest].subjects) == 0 && !ghost {
				left--
			}
		}
	}
	goes, claimed := map[oci.Digest]bool{}, map[oci.Digest]bool{}
	for i := range seen.Versions {
		v := &seen.Versions[i]
		if stays[v.Digest] {
			continue
		}
		goes[v.Digest] = part(v)
		for j := range policy.Rules {
			r := &policy.Rules[j]
			if r.Delete == nil && r.Untag == nil || part(v) && len(r.Match.Tags) == 0 {
				continue
			}
			is := about(v, r, false)
			whole := is == yes
			if !whole && r.Untag != nil && len(r.Match.Tags) > 0 {
				is = about(v, r, true) // some of its tags are enough
			}
			if is == no {
				continue
			}
			if is == unknown {
				break // it may be this rule's, so it is no later one's
			}
			w := r.Delete
			if whole && w != nil && (w.OlderThan == 0 || !v.Created.IsZero() && today.Sub(v.Created) >= w.OlderThan) {
				goes[v.Digest], claimed[v.Digest] = true, true
			}
			break
		}
	}
	for again := true; again; {
		again = false
		supported := map[oci.Digest]bool{}
		for range seen.Versions {
			for d, ok := range goes {
				up := slices.Concat(parents[d], subjects[d])
				if ok && (claimed[d] || slices.ContainsFunc(up, func(u oci.Digest) bool { return supported[u] })) {
					supported[d] = true
				}
			}
		}
		for d, ok := range goes {
			up := slices.Concat(parents[d], subjects[d])
			if ok && (!supported[d] || slices.ContainsFunc(up, func(u oci.Digest) bool { return !goes[u] })) {
				goes[d], again = false, true
			}
		}
	}
	maps.DeleteFunc(goes, func(_ oci.Digest, ok bool) bool { return !ok })
	return goes
}
