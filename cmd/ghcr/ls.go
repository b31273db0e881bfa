package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
)

// listed is one tag of ghcr ls.
type listed struct {
	Tag       string     `json:"tag"`
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Platforms []string   `json:"platforms"`
	Size      int64      `json:"size"`    // of config and layers, compressed, in bytes
	Created   *time.Time `json:"created"` // null where the image does not say
}

type listFlags struct {
	match, regex string
	limit        int
	sort         string
	digestTags   bool
	versions     bool
	untagged     bool
	deleted      bool
	visibility   string
	linked       string
}

func (a *app) listCommand() *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "ls OWNER | PKG", Aliases: []string{"list"},
		Short: "List an owner's packages, or a package's tags or versions",
		Long: `List the packages of an owner, or the tags of a package with what they name. The tags of
signatures and referrers, sha256-<hex>, are left out unless --include-digest-tags is
given. With --quiet only names are printed, which takes one request for a thousand tags.

With --versions every manifest that the package has is listed, with its number, and what
it is to the others; with --untagged those without a tag, and with --deleted what can
still be restored. A package of any registry has tags, and one of GitHub's has versions.`,
		Example: "  ghcr ls acme\n  ghcr ls acme/app --match 'v1.*' --sort created\n  ghcr ls acme/app -q\n" +
			"  ghcr ls acme/app --untagged --json=id,digest,role,reach",
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completePackages,
		RunE: func(cmd *cobra.Command, given []string) error { return a.list(cmd.Context(), given[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.match, "match", "", "only tags, or packages, that match this `GLOB`")
	flags.StringVar(&f.regex, "regex", "", "only tags, or packages, that match this regular `EXPRESSION`")
	flags.IntVarP(&f.limit, "limit", "n", 0, "at most so many rows")
	flags.StringVar(&f.sort, "sort", "", "name, created or size; else as the registry has them")
	flags.BoolVar(&f.digestTags, "include-digest-tags", false, "with tags that name a digest")
	flags.BoolVar(&f.digestTags, "all", false, "the same as --include-digest-tags")
	flags.BoolVar(&f.versions, "versions", false, "versions, with or without tags")
	flags.BoolVar(&f.untagged, "untagged", false, "versions without a tag")
	flags.BoolVar(&f.deleted, "deleted", false, "versions that can be restored")
	flags.StringVar(&f.visibility, "visibility", "", "only packages that are `public, private or internal`")
	choices(cmd, "sort", "name", "created", "size")
	choices(cmd, "visibility", "public", "private", "internal")
	flags.StringVar(&f.linked, "linked", "", "only packages that are linked to this `REPOSITORY` of source")
	return cmd
}

func (f listFlags) options() (registry.TagOptions, error) {
	opts := registry.TagOptions{Match: f.match}
	if f.limit < 0 {
		return opts, usage("--limit %d: must not be negative", f.limit)
	}
	if !slices.Contains([]string{"", "name", "created", "size"}, f.sort) {
		return opts, usage("--sort %q: want name, created or size", f.sort)
	}
	if f.regex != "" {
		var err error
		if opts.Regex, err = regexp.Compile(f.regex); err != nil {
			return opts, usage("--regex: %w", err)
		}
	}
	return opts, nil
}

func (a *app) list(ctx context.Context, name string, f listFlags) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	byVersion := f.versions || f.untagged || f.deleted
	switch isOwner := !strings.Contains(name, "/"); {
	case isOwner && byVersion:
		return usage("ls %s: an owner has packages; name one to see its versions, %s/IMAGE", name, name)
	case isOwner:
		return a.listPackages(ctx, name, opts, f)
	case f.visibility != "" || f.linked != "":
		return usage("ls %s: --visibility and --linked choose among the packages of an owner", name)
	}
	repo, ref, err := a.repository(name, true)
	if err != nil {
		return err
	}
	if byVersion {
		return a.listVersions(ctx, ref, opts, f)
	}
	if !ref.Reference.IsZero() {
		return usage("ls %s: it lists the tags of a repository; for one image use ghcr show", name)
	}
	var tags []string
	hidden := 0
	for tag, err := range repo.Tags(ctx, opts) {
		if err != nil {
			return err
		}
		if _, _, isDigest := oci.ParseDigestTag(tag); isDigest && !f.digestTags {
			hidden++
			continue
		}
		tags = append(tags, tag)
	}
	total := len(tags)
	cut := func() {
		if f.limit > 0 && len(tags) > f.limit {
			tags = tags[:f.limit]
		}
	}
	namesOnly := a.flags.quiet && !a.flags.json.set && a.flags.jq == "" && a.flags.template == ""
	if f.sort == "name" {
		slices.Sort(tags)
	}
	if f.sort != "created" && f.sort != "size" {
		cut()
	}
	if namesOnly && f.sort != "created" && f.sort != "size" {
		return a.print(result{ids: tags})
	}
	rows, err := describeTags(ctx, repo, tags)
	if err != nil {
		return err
	}
	switch f.sort {
	case "created":
		slices.SortStableFunc(rows, func(x, y listed) int { return known(y.Created).Compare(known(x.Created)) })
	case "size":
		slices.SortStableFunc(rows, func(x, y listed) int { return cmp.Compare(y.Size, x.Size) })
	}
	if f.limit > 0 && len(rows) > f.limit {
		rows = rows[:f.limit]
	}
	return a.printTags(rows, total, hidden)
}

func (a *app) printTags(rows []listed, total, hidden int) error {
	r := result{data: rows, head: []string{"TAG", "DIGEST", "PLATFORMS", "SIZE", "CREATED"}}
	if rows == nil {
		r.data = []listed{}
	}
	images := map[oci.Digest]bool{}
	now := time.Now()
	for _, t := range rows {
		images[t.Digest] = true
		r.ids = append(r.ids, t.Tag)
		platforms := make([]string, len(t.Platforms))
		for i, p := range t.Platforms {
			platforms[i] = strings.TrimPrefix(p, "linux/")
		}
		created := ""
		if t.Created != nil {
			created = t.Created.UTC().Format(time.RFC3339)
		}
		r.rows = append(r.rows, []string{t.Tag, shortDigest(t.Digest), strings.Join(platforms, " "), size(t.Size), ago(known(t.Created), now)})
		r.plain = append(r.plain, []string{t.Tag, t.Digest.String(), strings.Join(t.Platforms, ","), fmt.Sprint(t.Size), created})
	}
	r.foot = fmt.Sprintf("%s on %s", plural(total, "tag"), plural(len(images), "image"))
	if len(rows) < total {
		r.foot = fmt.Sprintf("%d of %s", len(rows), plural(total, "tag"))
	}
	if hidden > 0 {
		r.foot += " · hidden: " + plural(hidden, "digest tag")
	}
	return a.print(r)
}

// describeTags finds out what each tag names, several at a time. Tags of the same
// image are looked at once.
func describeTags(ctx context.Context, repo *registry.Repository, tags []string) ([]listed, error) {
	rows := make([]listed, len(tags))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	var mu sync.Mutex
	described := map[oci.Digest]func() (imageFacts, error){}
	for i, tag := range tags {
		group.Go(func() error {
			d, err := repo.Resolve(ctx, tag)
			if err != nil {
				return err
			}
			mu.Lock()
			once := described[d.Digest]
			if once == nil {
				once = sync.OnceValues(func() (imageFacts, error) { return facts(ctx, repo, d.Digest.String()) })
				described[d.Digest] = once
			}
			mu.Unlock()
			f, err := once()
			if err != nil {
				return err
			}
			rows[i] = listed{Tag: tag, Digest: d.Digest, MediaType: d.MediaType, Platforms: f.platforms, Size: f.size, Created: stated(f.created)}
			return nil
		})
	}
	return rows, group.Wait()
}

// stated is a time for JSON, in which one that is not known is null.
func stated(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func known(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// imageFacts is what manifests and a config say about an image.
type imageFacts struct {
	manifest  *oci.Manifest
	platforms []string
	size      int64 // of all blobs, each once
	created   time.Time
	config    imageConfig
}

// imageConfig is the part of a config that is shown.
type imageConfig struct {
	Created      time.Time `json:"created"`
	OS           string    `json:"os"`
	Architecture string    `json:"architecture"`
	Variant      string    `json:"variant"`
	Config       struct {
		Entrypoint []string          `json:"Entrypoint"`
		Cmd        []string          `json:"Cmd"`
		User       string            `json:"User"`
		WorkingDir string            `json:"WorkingDir"`
		Env        []string          `json:"Env"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
}

// facts reads a manifest, its children if it is an index, and one config.
func facts(ctx context.Context, repo *registry.Repository, ref string) (imageFacts, error) {
	m, err := repo.Manifest(ctx, ref)
	if err != nil {
		return imageFacts{}, err
	}
	f := imageFacts{manifest: m, platforms: []string{}}
	seen := map[oci.Digest]bool{}
	if !m.IsIndex() {
		f.addBlobs(m, seen)
		if err := f.readConfig(ctx, repo, m); err != nil {
			return f, err
		}
		if f.config.OS != "" && m.Kind() == oci.KindImage {
			p := oci.Platform{OS: f.config.OS, Architecture: f.config.Architecture, Variant: f.config.Variant}
			f.platforms = append(f.platforms, oci.FormatPlatform(p))
		}
		return f, nil
	}
	for _, d := range m.Manifests {
		if oci.HasPlatform(d) {
			f.platforms = append(f.platforms, oci.FormatPlatform(*d.Platform))
		}
		if !oci.IsManifestType(d.MediaType) || oci.IsIndexType(d.MediaType) {
			continue
		}
		child, err := repo.Manifest(ctx, d.Digest.String())
		if err != nil {
			return f, err
		}
		f.addBlobs(child, seen)
		if f.created.IsZero() && oci.HasPlatform(d) {
			if err := f.readConfig(ctx, repo, child); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

func (f *imageFacts) addBlobs(m *oci.Manifest, seen map[oci.Digest]bool) {
	for _, d := range m.Blobs() {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			f.size += d.Size
		}
	}
}

// maxConfig is far above the size of any image's config.
const maxConfig = 8 << 20

func (f *imageFacts) readConfig(ctx context.Context, repo *registry.Repository, m *oci.Manifest) error {
	if m.Kind() != oci.KindImage || m.Config.Size > maxConfig {
		return nil
	}
	body, err := repo.GetBlob(ctx, *m.Config)
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	// A config that cannot be read says nothing; the image is what it is.
	json.Unmarshal(raw, &f.config)
	f.created = f.config.Created
	return nil
}
