package retain

import (
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/llm-dev-ops/ghcr/oci"
)

// policyKeys are the keys of a policy file of version 1.
func policyKeys() []key[Policy] {
	return []key[Policy]{
		needed(key[Policy]{
			name: "version", doc: "Version of the format: 1.", schema: object{"const": 1},
			set: func(r *reader, n *yaml.Node, where string, _ *Policy) {
				if n.ShortTag() != "!!int" || n.Value != "1" {
					r.fail(n, where, "version is %s; want the number 1", whatIs(n))
				}
			},
			get: func(*Policy) any { return 1 },
		}),
		many("packages", "Packages that the policy is for: OWNER/PACKAGE, globs, and with ! before it what to leave out.", packageKind,
			func(p *Policy) *[]string { return &p.Packages }),
		nested("defaults", "Rails, which stop a plan that does more than was meant.", railKeys(), func(p *Policy) *Rails { return &p.Rails }),
		nested("protect", "What stays whatever the rules say, with all that it reaches.", protectKeys(), func(p *Policy) *Protect { return &p.Protect }),
		needed(items("rules", "Rules in order: the first that claims an image decides what becomes of it.", ruleKeys(), func(p *Policy) *[]Rule { return &p.Rules })),
		items("tests", "Packages that are made up, and what the policy is to do with them.", testKeys(), func(p *Policy) *[]Test { return &p.Tests }),
	}
}

func railKeys() []key[Rails] {
	return []key[Rails]{
		fixed("grace", "Age below which an untagged version stays, for it may be part of a push.", graceKind, func(r *Rails) *time.Duration { return &r.Grace }),
		fixed("max_delete", "A plan that deletes more versions is refused.", limitKind, func(r *Rails) *int { return &r.MaxDelete }),
		fixed("max_delete_percent", "A plan that deletes more of the package's versions is refused.", percentKind, func(r *Rails) *int { return &r.MaxDeletePercent }),
		fixed("min_remaining", "A plan that leaves fewer images is refused.", remainKind, func(r *Rails) *int { return &r.MinRemaining }),
		fixed("allow_match_all", "Agrees to rules that delete and match every tag.", flagKind, func(r *Rails) *bool { return &r.AllowMatchAll }),
	}
}

func protectKeys() []key[Protect] {
	return []key[Protect]{
		many("tags", "Tags, globs and expressions.", patternKind, func(p *Protect) *[]Pattern { return &p.Tags }),
		many("digests", "Digests.", digestKind, func(p *Protect) *[]oci.Digest { return &p.Digests }),
		many("digests_from", "Files, or globs of them, that are searched for digests and references of images in use.", filesKind,
			func(p *Protect) *[]string { return &p.InUseFrom }),
	}
}

func ruleKeys() []key[Rule] {
	return []key[Rule]{
		needed(one("name", "Name, which is printed as the reason.", nameKind, func(r *Rule) *string { return &r.Name })),
		needed(nested("match", "Images that the rule is about. All that is said must hold.", matchKeys(), func(r *Rule) *Match { return &r.Match })),
		action("keep", "Which of the matches stay: all, or what any of the keys names.", keepKeys(), func(r *Rule) **Keep { return &r.Keep },
			func(k *Keep) { k.All = true }, func(k *Keep) bool { return k.All }),
		action("delete", "Which of the matches that are not kept are deleted.", whenKeys(), func(r *Rule) **When { return &r.Delete }, func(*When) {}, everything),
		action("untag", "Which of the matches that are not kept lose their matching tags. The images stay.", whenKeys(),
			func(r *Rule) **When { return &r.Untag }, func(*When) {}, everything),
		one("retag", "Tag for untagged matches, with {digest} or {id} in it.", textKind, func(r *Rule) *string { return &r.Retag }),
		one("report", "Only names the matches.", setKind, func(r *Rule) *bool { return &r.Report }),
	}
}

func everything(w *When) bool { return *w == When{} }

func matchKeys() []key[Match] {
	return []key[Match]{
		many("tags", "Tags, globs (* and ?), or expressions with re: before them; any of them.", patternKind, func(m *Match) *[]Pattern { return &m.Tags }),
		{
			name: "regex", doc: "Regular expressions for whole tags; the same as re: in tags.",
			schema: object{"anyOf": []any{regexKind.schema, object{"type": "array", "minItems": 1, "items": regexKind.schema}}},
			set: func(r *reader, n *yaml.Node, where string, m *Match) {
				m.Tags = append(m.Tags, readMany(r, n, where, regexKind)...)
			},
		},
		one("tags_from", "File of tags, one in each line.", fileKind, func(m *Match) *string { return &m.TagsFrom }),
		many("except", "Tags that do not match after all.", patternKind, func(m *Match) *[]Pattern { return &m.Except }),
		one("semver", "Range of semantic versions. A tag that is no version does not match.", rangeKind, func(m *Match) *Range { return &m.Semver }),
		optional("prerelease", "With semver: false leaves pre-releases out, true takes only them.", flagKind, func(m *Match) **bool { return &m.Prerelease }),
		one("calver", "Regular expression with the groups year, month and day, and perhaps hour and minute, that reads dates from tags.", regexKind,
			func(m *Match) *Pattern { return &m.Calver }),
		one("any_tag", "One matching tag of an image is enough. Otherwise all must match.", setKind, func(m *Match) *bool { return &m.Any }),
		one("untagged", "Images that have no tag, and that nothing which stays needs.", setKind, func(m *Match) *bool { return &m.Untagged }),
		many("digests", "Digests.", digestKind, func(m *Match) *[]oci.Digest { return &m.Digests }),
		many("roles", "What the manifest is.",
			enum(oci.RoleImage, oci.RoleIndex, oci.RoleArtifact, oci.RoleCache, oci.RoleReferrer, oci.RoleReferrers, oci.RoleChild, oci.RoleAttestation),
			func(m *Match) *[]oci.Role { return &m.Roles }),
		many("health", "What is wrong with it.", enum(Ghost, Partial, Orphan, Dangling, Unreadable), func(m *Match) *[]Health { return &m.Health }),
		many("media_types", "Media types of the manifest.", textKind, func(m *Match) *[]string { return &m.MediaTypes }),
		many("artifact_types", "Artifact types of the manifest.", textKind, func(m *Match) *[]string { return &m.ArtifactTypes }),
		dict("annotations", "Annotations of the manifest, with patterns for their values.", patternKind, func(m *Match) *map[string]Pattern { return &m.Annotations }),
		dict("labels", "Labels of the image's config, with patterns for their values.", patternKind, func(m *Match) *map[string]Pattern { return &m.Labels }),
		many("platforms", "Platforms, such as linux/amd64.", platformKind, func(m *Match) *[]string { return &m.Platforms }),
		one("larger_than", "Size of all that it reaches, such as 500MB.", sizeKind, func(m *Match) *int64 { return &m.LargerThan }),
		one("smaller_than", "Size of all that it reaches, such as 500MB.", sizeKind, func(m *Match) *int64 { return &m.SmallerThan }),
		one("older_than", "Age. Younger ones do not match, and so are not counted by keep either.", ageKind, func(m *Match) *time.Duration { return &m.OlderThan }),
		one("younger_than", "Age. Older ones do not match.", ageKind, func(m *Match) *time.Duration { return &m.YoungerThan }),
		one("by", "What these ages go by.", enum(ByCreated, ByUpdated, ByTagDate), func(m *Match) *Order { return &m.By }),
	}
}

func keepKeys() []key[Keep] {
	return []key[Keep]{
		one("last", "So many of the newest.", countKind, func(k *Keep) *int { return &k.Last }),
		one("within", "All that are younger.", ageKind, func(k *Keep) *time.Duration { return &k.Within }),
		one("days", "The newest of each of so many days that have any.", countKind, func(k *Keep) *int { return &k.Days }),
		one("weeks", "The newest of each of so many weeks that have any.", countKind, func(k *Keep) *int { return &k.Weeks }),
		one("months", "The newest of each of so many months that have any.", countKind, func(k *Keep) *int { return &k.Months }),
		one("years", "The newest of each of so many years that have any.", countKind, func(k *Keep) *int { return &k.Years }),
		one("at_least", "So many stay, however old.", countKind, func(k *Keep) *int { return &k.AtLeast }),
		one("whole", "Counts only images all of whose tags match.", setKind, func(k *Keep) *bool { return &k.Whole }),
		one("per", "Counts in each group on its own: major, minor, channel, platform, or a group of the regular expression.", nameKind,
			func(k *Keep) *string { return &k.Per }),
		one("order", "What newest means.", enum(ByCreated, ByUpdated, BySemver, ByTagDate), func(k *Keep) *Order { return &k.Order }),
	}
}

func whenKeys() []key[When] {
	return []key[When]{
		one("older_than", "Only what is older.", ageKind, func(w *When) *time.Duration { return &w.OlderThan }),
		one("by", "What that age goes by.", enum(ByCreated, ByUpdated, ByTagDate), func(w *When) *Order { return &w.By }),
		one("when_not_in", "Only what is not a line of this file.", fileKind, func(w *When) *string { return &w.NotIn }),
		one("key", "Group of the regular expression that is looked up in that file; the whole tag if there are no groups.", nameKind,
			func(w *When) *string { return &w.Key }),
		one("expired", "Annotation with a date, or a duration from the creation, that must have passed.", textKind, func(w *When) *string { return &w.Expired }),
	}
}

func testKeys() []key[Test] {
	return []key[Test]{
		needed(one("name", "What the test shows.", nameKind, func(t *Test) *string { return &t.Name })),
		dictMany("lists", "Lines of the files that the policy names.", textKind, func(t *Test) *map[string][]string { return &t.Lists }),
		needed(items("images", "The images of the package.", imageKeys(), func(t *Test) *[]TestImage { return &t.Images })),
	}
}

func imageKeys() []key[TestImage] {
	return []key[TestImage]{
		many("tags", "Tags; none is an untagged image.", textKind, func(i *TestImage) *[]string { return &i.Tags }),
		one("age", "Age, by creation and by last change; without it a moment.", ageKind, func(i *TestImage) *time.Duration { return &i.Age }),
		dict("annotations", "Annotations of its manifest.", looseKind, func(i *TestImage) *map[string]string { return &i.Annotations }),
		dict("labels", "Labels of its config.", looseKind, func(i *TestImage) *map[string]string { return &i.Labels }),
		needed(one("want", "What becomes of it.", enum("keep", string(Delete), string(Untag), string(Retag)), func(i *TestImage) *string { return &i.Want })),
		one("rule", "Rule that must have decided so.", nameKind, func(i *TestImage) *string { return &i.Rule }),
	}
}
