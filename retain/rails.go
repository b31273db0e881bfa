package retain

import (
	"fmt"
)

// rails are what the policy's limits have against the actions.
func (p *planner) rails(actions []Action) (list []Refusal) {
	refuse := func(rail, format string, args ...any) {
		list = append(list, Refusal{rail, fmt.Sprintf(format, args...)})
	}
	rails := &p.policy.Rails
	for i := range p.rules {
		if r := &p.rules[i]; !rails.AllowMatchAll && (r.Delete != nil || r.Untag != nil) && r.Match.matchesAll() {
			refuse("match-all", "rule %q is about every tag: narrow its match, or agree to that", r.Name)
		}
	}
	deletes := 0
	for _, a := range actions {
		if a.Do == Delete {
			deletes++
		}
	}
	if deletes == 0 {
		return list
	}
	images := 0
	for i := range p.items {
		if it := &p.items[i]; !it.going && !it.part && !it.opaque && it.counts() {
			images++
		}
	}
	total := len(p.items)
	if rails.MaxDelete >= 0 && deletes > rails.MaxDelete {
		refuse("max-delete", "%d versions would go, and at most %d may: raise the limit if that is meant", deletes, rails.MaxDelete)
	}
	if rails.MaxDeletePercent >= 0 && deletes*100 > rails.MaxDeletePercent*total {
		refuse("max-delete-percent", "%d of %d versions would go, and at most %d %% may: raise the limit if that is meant", deletes, total, rails.MaxDeletePercent)
	}
	if deletes == total {
		refuse("empty", "all %d versions would go: delete the package instead if that is meant", total)
	}
	if images < rails.MinRemaining {
		refuse("min-remaining", "%d images would be left, and at least %d must be: have rules keep more, or lower the limit", images, rails.MinRemaining)
	}
	return list
}
