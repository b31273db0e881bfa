package retain

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// ecrPolicy is a lifecycle policy of Amazon ECR.
type ecrPolicy struct {
	Rules []ecrRule `json:"rules"`
}

type ecrRule struct {
	Priority    int    `json:"rulePriority"`
	Description string `json:"description"`
	Selection   struct {
		TagStatus    string   `json:"tagStatus"`
		Prefixes     []string `json:"tagPrefixList"`
		Patterns     []string `json:"tagPatternList"`
		StorageClass string   `json:"storageClass"`
		CountType    string   `json:"countType"`
		CountUnit    string   `json:"countUnit"`
		CountNumber  int      `json:"countNumber"`
	} `json:"selection"`
	Action struct {
		Type   string `json:"type"`
		Target string `json:"targetStorageClass"`
	} `json:"action"`
}

// ecr converts rules in the order of their priority. An image that one selects by its
// tags is that one's alone, so a rule that can't be expressed keeps what it selects
// from those behind it.
func (c *conversion) ecr(data []byte) error {
	var policy ecrPolicy
	if err := readJSON(data, &policy); err != nil {
		return err
	}
	if len(policy.Rules) == 0 {
		return oci.Invalid("there are no rules")
	}
	slices.SortStableFunc(policy.Rules, func(a, b ecrRule) int { return cmp.Compare(a.Priority, b.Priority) })
	for i, r := range policy.Rules {
		name := cmp.Or(strings.TrimSpace(oneLine(r.Description)), "rule of priority "+strconv.Itoa(r.Priority))
		if len(name) > 80 {
			name = strings.ToValidUTF8(name[:80], "")
		}
		if i > 0 && policy.Rules[i-1].Priority == r.Priority {
			return oci.Invalid("two rules have the priority %d", r.Priority)
		}
		if err := c.ecrRule(name, r); err != nil {
			return err
		}
	}
	c.note("countType", "counts are of images: parts of indexes, signatures and attestations take no place and go with theirs")
	c.note("imageCountMoreThan", "what one rule keeps by its number, no other rule deletes; in the original the rule of higher priority does")
	return nil
}

func (c *conversion) ecrRule(name string, r ecrRule) error {
	s := r.Selection
	m, and, err := ecrMatch(s.Prefixes, s.Patterns)
	switch {
	case err != nil:
		return oci.Invalid("%s: %w", name, err)
	case s.TagStatus == "tagged" && len(m.Tags) == 0:
		return oci.Invalid("%s: tagged, and neither tagPrefixList nor tagPatternList", name)
	case s.TagStatus != "tagged" && len(m.Tags) > 0:
		return oci.Invalid("%s: prefixes or patterns of tags, and tagStatus is %q", name, s.TagStatus)
	case s.TagStatus != "tagged" && s.TagStatus != "untagged" && s.TagStatus != "any":
		return oci.Invalid("%s: tagStatus %q is none of tagged, untagged and any", name, s.TagStatus)
	case s.CountNumber < 1:
		return oci.Invalid("%s: countNumber is %d", name, s.CountNumber)
	}
	kept := func(why string) error {
		c.lose(name, "%s; what the rule selects is kept", why)
		c.ecrSelect(Rule{Name: name, Match: m, Keep: &Keep{All: true}}, s.TagStatus)
		return nil
	}
	rule := Rule{Name: name, Match: m, Delete: &When{}}
	switch {
	case r.Action.Type != "expire":
		return kept("action " + r.Action.Type + ": there are no storage classes on GHCR")
	case s.StorageClass != "" && s.StorageClass != "standard":
		return kept("storageClass " + s.StorageClass + ": there are no storage classes on GHCR")
	case and:
		return kept("an image must have a tag for each of several prefixes or patterns, and a match is any of them")
	case s.CountType == "imageCountMoreThan":
		rule.Keep = &Keep{Last: s.CountNumber, Order: ByCreated}
	case s.CountType == "sinceImagePushed":
		if s.CountUnit != "days" || s.CountNumber > 36_500 {
			return oci.Invalid("%s: countUnit %q and countNumber %d; want days, and at most 36500", name, s.CountUnit, s.CountNumber)
		}
		rule.Delete = &When{OlderThan: time.Duration(s.CountNumber) * day, By: ByUpdated}
		c.note(name, "counts from the last change, which is never before the push")
	default:
		return kept("countType " + s.CountType + ": GHCR does not say when an image was pulled")
	}
	c.ecrSelect(rule, s.TagStatus)
	return nil
}

// ecrMatch returns a match for prefixes and patterns, and whether an image would have to
// have tags for all of several.
func ecrMatch(prefixes, patterns []string) (m Match, and bool, err error) {
	for _, text := range prefixes {
		if text == "" || strings.ContainsAny(text, "*?") {
			return Match{}, false, oci.Invalid("tagPrefixList: the prefix %q is empty, or has a wildcard", text)
		}
		patterns = append(slices.Clip(patterns), text+"*")
	}
	for _, text := range patterns {
		p, err := glob(text, "?")
		if err != nil {
			return Match{}, false, err
		}
		m.Tags = append(m.Tags, p)
	}
	m.Any = len(m.Tags) > 0
	return m, len(m.Tags) > 1, nil
}

// ecrSelect adds a rule for what the status of tags selects. One that is for both is two
// rules, of which each counts for itself and so keeps more.
func (c *conversion) ecrSelect(r Rule, status string) {
	if status == "any" {
		c.note(r.Name, "is two rules, for tagged and for untagged images, of which each counts for itself")
	}
	if status == "tagged" {
		c.rule(r)
		return
	}
	c.bothWays(r, status == "any", true)
}

// bothWays adds a rule that says nothing of tags as one for what has some and one for
// what has none.
func (c *conversion) bothWays(r Rule, tagged, untagged bool) {
	name := r.Name
	if tagged {
		r.Match.Tags, r.Match.Any = []Pattern{everyTag()}, false
		if r.Delete != nil {
			r.Match.Except = []Pattern{digestTags()}
		}
		c.rule(r)
	}
	if untagged {
		if tagged {
			r.Name = name + ", untagged"
		}
		r.Match.Tags, r.Match.Except, r.Match.Any, r.Match.Untagged = nil, nil, false, true
		c.rule(r)
	}
}

// garPolicy is one cleanup policy of Google Artifact Registry.
type garPolicy struct {
	Name      string        `json:"name"`
	Action    garAction     `json:"action"`
	Condition *garCondition `json:"condition"`
	Recent    *struct {
		PackagePrefixes []string `json:"packageNamePrefixes"`
		KeepCount       int      `json:"keepCount"`
	} `json:"mostRecentVersions"`
}

type garAction struct {
	Type string `json:"type"`
}

type garCondition struct {
	TagState        string   `json:"tagState"`
	TagPrefixes     []string `json:"tagPrefixes"`
	VersionPrefixes []string `json:"versionNamePrefixes"`
	PackagePrefixes []string `json:"packageNamePrefixes"`
	OlderThan       string   `json:"olderThan"`
	NewerThan       string   `json:"newerThan"`
}

// artifactRegistry converts cleanup policies. What one keeps, none deletes, as with us.
func (c *conversion) artifactRegistry(data []byte) error {
	var policies []garPolicy
	if err := readJSON(data, &policies); err != nil {
		return err
	}
	for i, p := range policies {
		name := cmp.Or(strings.TrimSpace(oneLine(p.Name)), "policy "+strconv.Itoa(i+1))
		if len(name) > 80 {
			return oci.Invalid("the name %.20q... is longer than 80 bytes", name)
		}
		var err error
		switch keep := strings.EqualFold(p.Action.Type, "keep"); {
		case !keep && !strings.EqualFold(p.Action.Type, "delete"):
			err = oci.Invalid("action %q is neither Delete nor Keep", p.Action.Type)
		case (p.Condition != nil) == (p.Recent != nil):
			err = oci.Invalid("want either condition or mostRecentVersions")
		case p.Recent != nil && !keep:
			err = oci.Invalid("mostRecentVersions is for Keep")
		case p.Recent != nil:
			err = c.garRecent(name, p)
		default:
			err = c.garCondition(name, *p.Condition, keep)
		}
		if err != nil {
			return oci.Invalid("%s: %w", name, err)
		}
	}
	return nil
}

func (c *conversion) garRecent(name string, p garPolicy) error {
	if p.Recent.KeepCount < 1 {
		return oci.Invalid("keepCount is %d", p.Recent.KeepCount)
	}
	if len(p.Recent.PackagePrefixes) > 0 {
		c.note(name, "is for packages %s there, and here for all that the policy is for", strings.Join(p.Recent.PackagePrefixes, ", "))
	}
	c.note(name, "keeps so many of tagged and of untagged images each; parts of indexes and signatures are not counted")
	c.bothWays(Rule{Name: name, Keep: &Keep{Last: p.Recent.KeepCount, Order: ByCreated}}, true, true)
	return nil
}

func (c *conversion) garCondition(name string, g garCondition, keep bool) error {
	r := Rule{Name: name}
	var err error
	if r.Match.OlderThan, err = garAge("olderThan", g.OlderThan); err != nil {
		return err
	}
	if r.Match.YoungerThan, err = garAge("newerThan", g.NewerThan); err != nil {
		return err
	}
	switch {
	case keep && len(g.VersionPrefixes) > 0:
		return oci.Invalid("versionNamePrefixes: what it keeps can't be expressed; protect: {digests: [...]} keeps whole digests")
	case len(g.VersionPrefixes) > 0:
		c.lose(name, "versionNamePrefixes: digests are only matched whole, by match: {digests: [...]}")
		return nil
	case len(g.PackagePrefixes) > 0 && !keep:
		c.lose(name, "packageNamePrefixes: a policy is for its packages as a whole; make one of its own for %s", strings.Join(g.PackagePrefixes, ", "))
		return nil
	case len(g.PackagePrefixes) > 0:
		c.note(name, "is for packages %s there, and here for all that the policy is for", strings.Join(g.PackagePrefixes, ", "))
	}
	r.Delete = &When{}
	if keep {
		r.Keep, r.Delete = &Keep{All: true}, nil
	}
	state := strings.ToLower(cmp.Or(g.TagState, "any"))
	switch {
	case !slices.Contains([]string{"tagged", "untagged", "any", "tag_state_unspecified"}, state):
		return oci.Invalid("tagState %q is none of TAGGED, UNTAGGED and ANY", g.TagState)
	case len(g.TagPrefixes) > 0 && state == "untagged":
		return oci.Invalid("tagPrefixes of what has no tag")
	case len(g.TagPrefixes) == 0:
		c.bothWays(r, state != "untagged", state != "tagged")
		return nil
	}
	for _, text := range g.TagPrefixes {
		if text == "" || strings.ContainsAny(text, "*?") {
			return oci.Invalid("tagPrefixes: the prefix %q is empty, or has a wildcard", text)
		}
		p, err := glob(text+"*", "?")
		if err != nil {
			return err
		}
		r.Match.Tags = append(r.Match.Tags, p)
	}
	if !keep {
		c.note(name, "deletes images all of whose tags match; in the original one is enough, as with any_tag: true")
	}
	c.rule(r)
	return nil
}

func garAge(input, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	// There m is minutes, and nothing is longer than a day.
	if strings.HasSuffix(text, "m") {
		text += "in"
	}
	age, err := ParseAge(text)
	if err == nil && age == 0 {
		err = oci.Invalid("no age at all")
	}
	if err != nil {
		return 0, oci.Invalid("%s: %w", input, err)
	}
	return age, nil
}
