package retain

import (
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// cleanupAction converts the inputs of dataaxiom/ghcr-cleanup-action. It drops what is
// excluded and what was updated lately, and then does what each option says to the rest.
func (t *taken) cleanupAction() {
	t.dryRun()
	regex := t.flag("use-regex")
	if t.flag("validate") {
		t.note("validate", "ghcr check looks for broken images")
	}
	t.flag("expand-packages") // wildcards are read anyway
	names := append(t.names("package", false), t.names("packages", false)...)
	if regex && slices.ContainsFunc(names, func(s string) bool { return strings.ContainsAny(s, `*?[](){}|^$\+`) }) {
		t.fail("packages", "names of packages are no regular expressions; list them")
	}
	t.packages("packages", t.inputs["owner"], names)
	delete(t.inputs, "owner")

	pattern := func(input string, keep bool) (list []Pattern) {
		texts := t.list(input, false)
		if value := strings.Join(texts, ","); regex && value != "" {
			texts = []string{value}
		}
		for _, text := range texts {
			p, err := glob(text, `[]{}()!@+\`)
			if regex {
				p, err = anywhere(text)
			}
			switch {
			case err != nil && keep:
				t.fail(input, "what it keeps can't be expressed: %v", err)
			case err != nil:
				t.lose(input, "%v", err)
			default:
				list = append(list, p)
			}
		}
		return list
	}
	except := pattern("exclude-tags", true)
	asked := t.inputs["delete-tags"] != "" || t.inputs["tags"] != ""
	tags := append(pattern("delete-tags", false), pattern("tags", false)...)
	if len(except) > 0 {
		t.policy.Protect.Tags = except
		t.note("exclude-tags", "what is excluded is protected, with all that it reaches; the original deletes parts of it that have a tag of their own")
	}
	when := Match{OlderThan: t.age("older-than")}
	if when.OlderThan > 0 {
		when.By = ByUpdated
		t.note("older-than", "counts from the last change, as in the original; a month is taken for 31 days and a year for 366")
	}
	keepTagged, keepUntagged := t.number("keep-n-tagged"), t.number("keep-n-untagged")
	options := []struct {
		input  string
		health Health
	}{{"delete-ghost-images", Ghost}, {"delete-partial-images", Partial}, {"delete-orphaned-images", Orphan}}
	for _, o := range options {
		asked = asked || t.inputs[o.input] == "true"
	}
	for _, o := range options {
		if t.flag(o.input) {
			m := when
			m.Health = []Health{o.health}
			t.rule(Rule{Name: string(o.health), Match: m, Delete: &When{}})
		}
	}
	asked = asked || keepTagged >= 0 || keepUntagged >= 0
	_, said := t.inputs["delete-untagged"]
	untagged := t.flag("delete-untagged") || !said && !asked
	t.cleanupTags(when, tags, except, keepTagged)
	var keep *Keep
	if keepUntagged > 0 {
		keep = &Keep{Last: keepUntagged, Order: ByUpdated}
	}
	switch {
	case keepUntagged >= 0:
		t.rule(untaggedRule(when, keep))
		if untagged {
			t.note("delete-untagged", "keep-n-untagged says how many of them stay")
		}
	case untagged:
		t.rule(untaggedRule(when, nil))
	}
	if keepUntagged >= 0 || untagged {
		t.note("delete-untagged", "what has no tag stays for two hours, for it may be part of a push (defaults: {grace: 2h})")
	}
}

// cleanupTags is what the action does to what has tags.
func (t *taken) cleanupTags(when Match, tags, except []Pattern, last int) {
	m := when
	m.Tags, m.Except = tags, append(slices.Clone(except), digestTags())
	r := Rule{Name: "tags", Match: m, Delete: &When{}}
	if last > 0 {
		r.Keep = &Keep{Last: last, Order: ByUpdated, Whole: true}
		t.note("keep-n-tagged", "signatures and the like take no place and go with what they are about")
	}
	switch {
	case last >= 0 && len(tags) == 0 && (t.has("delete-tags") || t.has("tags")), last < 0 && len(tags) == 0:
		return
	case last >= 0 && len(tags) == 0:
		r.Name, r.Match.Tags = "tagged", []Pattern{everyTag()}
	case last < 0 && len(except) == 0:
		r.Untag = &When{}
		t.note("delete-tags", "an image that has other tags stays and loses those that match, as in the original; but also one that an index needs, which the original leaves alone without a word")
	case last < 0:
		t.note("delete-tags", "an image that has other tags stays as it is; the original takes off those that match, which untag: all would do")
	}
	t.rule(r)
}

// has tells whether an input has lost something.
func (t *taken) has(input string) bool {
	return slices.ContainsFunc(t.notes, func(n Note) bool { return n.Input == input && n.Lost })
}

// retentionPolicy converts the inputs of snok/container-retention-policy. It deletes what
// was changed before the cut-off, all of whose tags match, but for the newest.
func (t *taken) retentionPolicy() {
	t.dryRun()
	owner := t.inputs["account"]
	delete(t.inputs, "account")
	if owner == "user" {
		owner = ""
	}
	t.packages("image-names", owner, t.names("image-names", true))
	m := Match{OlderThan: t.age("cut-off"), By: ByUpdated}
	if m.OlderThan == 0 {
		t.fail("cut-off", "it is required there, and is missing")
	}
	order := ByUpdated
	switch by := t.text("timestamp-to-use"); by {
	case "", "updated_at":
	case "created_at":
		m.By, order = ByCreated, ByCreated
	default:
		t.fail("timestamp-to-use", "%q is neither updated_at nor created_at", by)
	}
	var tags, except []Pattern
	for _, text := range t.list("image-tags", true) {
		name, out := strings.CutPrefix(text, "!")
		p, err := glob(name, `[]{}\`)
		switch {
		case err != nil && out:
			t.fail("image-tags", "what it keeps can't be expressed: %v", err)
		case err != nil:
			t.lose("image-tags", "%v", err)
		case out:
			except = append(except, p)
		default:
			tags = append(tags, p)
		}
	}
	for _, text := range t.list("skip-shas", true) {
		d, err := oci.ParseDigest(text)
		if err != nil {
			t.fail("skip-shas", "what it keeps can't be expressed: %v", err)
		}
		t.policy.Protect.Digests = append(t.policy.Protect.Digests, d)
	}
	last := t.number("keep-n-most-recent")
	keep := func(whole bool) *Keep {
		if last <= 0 {
			return nil
		}
		return &Keep{Last: last, Order: order, Whole: whole}
	}
	selection := t.text("tag-selection")
	if !slices.Contains([]string{"", "both", "tagged", "untagged"}, selection) {
		t.fail("tag-selection", "%q is none of tagged, untagged and both", selection)
	}
	if selection != "untagged" && (len(tags) > 0 || !t.has("image-tags")) {
		r := Rule{Name: "tags", Match: m, Keep: keep(true), Delete: &When{}}
		r.Match.Tags, r.Match.Except = tags, append(except, digestTags())
		if len(tags) == 0 {
			r.Match.Tags = []Pattern{everyTag()}
		}
		t.rule(r)
		t.note("image-tags", "signatures and the like go with what they are about, and not by their own tags")
	}
	if selection != "tagged" {
		t.rule(untaggedRule(m, keep(false)))
	}
	if last > 0 {
		t.note("keep-n-most-recent", "so many stay of what is older than the cut-off, as in the original; of tagged and of untagged images each")
	}
}

// deleteVersions converts the inputs of actions/delete-package-versions, which knows
// versions and no tags.
func (t *taken) deleteVersions() {
	owner := t.inputs["owner"]
	delete(t.inputs, "owner")
	t.packages("package-name", owner, t.names("package-name", false))
	if ids := t.list("package-version-ids", true); len(ids) > 0 {
		t.lose("package-version-ids", "numbers of versions are no policy; ghcr rm OWNER/PACKAGE#NUMBER deletes them")
	}
	if n := t.number("num-old-versions-to-delete"); n > 0 {
		t.lose("num-old-versions-to-delete", "how many of the oldest go does not say what stays; say how many stay: keep: {last: N}")
	}
	last := t.number("min-versions-to-keep")
	if ignore := t.text("ignore-versions"); ignore != "" {
		p, err := anywhere(ignore)
		if err != nil {
			t.fail("ignore-versions", "what it keeps can't be expressed: %v", err)
		} else {
			t.policy.Protect.Tags = []Pattern{p}
		}
		t.note("ignore-versions", "is looked for in tags; in the original it is compared with digests, and keeps nothing")
	}
	var keep, whole *Keep
	if last > 0 {
		keep, whole = &Keep{Last: last, Order: ByCreated}, &Keep{Last: last, Order: ByCreated, Whole: true}
	}
	tagged := Rule{Name: "tagged", Match: Match{Tags: []Pattern{everyTag()}, Except: []Pattern{digestTags()}}, Keep: whole, Delete: &When{}}
	onlyUntagged, onlyPre := t.flag("delete-only-untagged-versions"), t.flag("delete-only-pre-release-versions")
	switch {
	case last < 0 && !onlyUntagged && !onlyPre:
		t.lose("min-versions-to-keep", "without it nothing says what stays")
		return
	case onlyPre:
		tagged.Name, tagged.Match.Tags = "pre-releases", nil
		tagged.Match.Semver, _ = ParseRange(allVersions)
		pre := true
		tagged.Match.Prerelease = &pre
		t.rule(tagged)
		t.note("delete-only-pre-release-versions", "goes by tags; the original goes by digests, of which none is a version, and so deletes all")
	case onlyUntagged:
		t.rule(untaggedRule(Match{}, keep))
		t.note("delete-only-untagged-versions", "parts of images that stay have no tag either, and stay; the original deletes them")
	default:
		t.rule(tagged)
		t.rule(untaggedRule(Match{}, keep))
		t.note("min-versions-to-keep", "so many stay of tagged and of untagged images each; parts and signatures are not counted")
	}
	t.policy.Rails.MaxDelete, t.limits = 100, true
	t.note("min-versions-to-keep", "a plan of more than 100 deletions is refused, for that is all that the original does in one run; raise defaults: {max_delete: 100}")
}
