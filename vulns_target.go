package ghcr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// Labels and annotations that an image says with where it is from.
const (
	sourceLabel   = "org.opencontainers.image.source"
	revisionLabel = "org.opencontainers.image.revision"
)

// maxListed is how many versions are looked through for that of an image, the newest
// first.
const maxListed = 3000

// aim finds out what a reference names, and what is known of it. What can't be found
// out about the package is a note: the sources that need it say so too.
func (e *examination) aim(ctx context.Context, s *subject, ref oci.ImageRef) error {
	d := ref.Reference.Digest
	if d == "" {
		found, err := s.repo.Resolve(ctx, cmp.Or(ref.Reference.Tag, "latest"))
		if err != nil {
			return err
		}
		d = found.Digest
	}
	m, err := s.manifest(ctx, d)
	if err != nil {
		return err
	}
	e.target = vuln.Target{Ref: ref, Digest: d, Repository: e.opts.Repository}
	if err := e.platforms(ctx, s, m); err != nil {
		return err
	}
	if e.opts.Platform != "" {
		if err := e.choose(m); err != nil {
			return err
		}
	}
	if s.api != nil {
		e.fromPackage(ctx, s)
	}
	if !e.asksAlerts() {
		return ctx.Err()
	}
	e.fromLabels(ctx, s, m)
	if err := e.fromProvenance(ctx); err != nil {
		return err
	}
	e.defaultBranch(ctx)
	return ctx.Err()
}

// platforms reads the images of an index.
func (e *examination) platforms(ctx context.Context, s *subject, m *oci.Manifest) error {
	list, err := s.platformsOf(ctx, m)
	e.target.Platforms = list
	return err
}

// platformsOf are the images that a manifest is of. Of one that can't be read the
// digest of its configuration is not known.
func (s *subject) platformsOf(ctx context.Context, m *oci.Manifest) ([]vuln.PlatformImage, error) {
	if !m.IsIndex() {
		image := vuln.PlatformImage{Digest: m.Digest()}
		if m.Config != nil {
			image.Config = m.Config.Digest
		}
		if config, err := s.config(ctx, m); err == nil {
			image.Platform = config.Platform
		}
		return []vuln.PlatformImage{image}, ctx.Err()
	}
	list := imagesOf(m)
	err := each(ctx, len(list), func(ctx context.Context, i int) error {
		child, err := s.manifest(ctx, list[i].Digest)
		if err == nil && child.Config != nil {
			list[i].Config = child.Config.Digest
		}
		if err != nil && !errors.Is(err, ErrNotFound) && !ofOneManifest(err) {
			return err
		}
		return nil
	})
	return list, err
}

// imagesOf are the images that an index lists, without what it attests of them.
func imagesOf(m *oci.Manifest) []vuln.PlatformImage {
	var list []vuln.PlatformImage
	for _, d := range m.Manifests {
		if _, attests := oci.AttestationOf(d); attests || !oci.IsManifestType(d.MediaType) {
			continue
		}
		image := vuln.PlatformImage{Digest: d.Digest}
		if d.Platform != nil {
			image.Platform = *d.Platform
		}
		list = append(list, image)
	}
	return list
}

// choose aims at one image of an index.
func (e *examination) choose(m *oci.Manifest) error {
	want, err := oci.ParsePlatform(e.opts.Platform)
	if err != nil {
		return err
	}
	if !m.IsIndex() {
		if have := oci.FormatPlatform(e.target.Platforms[0].Platform); have != oci.FormatPlatform(want) {
			return oci.Invalid("%s is for %s alone", m.Digest(), have)
		}
		return nil
	}
	chosen, err := oci.SelectPlatform(m.Manifests, want)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(e.target.Platforms, func(p vuln.PlatformImage) bool { return p.Digest == chosen.Digest })
	if i < 0 {
		return oci.Invalid("%s lists nothing for %s", m.Digest(), e.opts.Platform)
	}
	e.target = onePlatform(e.target, i)
	return nil
}

// onePlatform is one image of an index, as a target of its own.
func onePlatform(t vuln.Target, i int) vuln.Target {
	one := t
	one.Parent, one.Digest, one.PackageVersionID = t.Digest, t.Platforms[i].Digest, 0
	one.Platforms = t.Platforms[i : i+1 : i+1]
	one.Others = append(slices.Clone(t.Platforms[:i]), t.Platforms[i+1:]...)
	return one
}

// asksAlerts tells whether the repository of the source matters.
func (e *examination) asksAlerts() bool {
	return e.opts.asks(vuln.SourceCodeScanning) || e.opts.asks(vuln.SourceDependabot)
}

// fromPackage takes what the Packages API says: the linked repository, and the
// version that has the digest.
func (e *examination) fromPackage(ctx context.Context, s *subject) {
	if e.target.Repository == "" && e.asksAlerts() {
		p, err := s.api.Get(ctx, s.owner, s.name)
		if err != nil {
			e.unlinked = fmt.Errorf("the repository that the package is linked to is not known: %w", err)
			e.notes = append(e.notes, e.unlinked.Error())
			return // the list would be refused for the same reason
		}
		e.target.Repository = p.Repository
	}
	if !e.opts.asks(vuln.SourcePackagesAPI) && !e.opts.asks(vuln.SourceCodeScanning) {
		return // to the others the number and the time say nothing
	}
	looked := 0
	for v, err := range s.api.Versions(ctx, s.owner, s.name, packages.Active) {
		if looked++; err != nil || looked > maxListed {
			if err == nil {
				err = fmt.Errorf("it is not among the newest %d", maxListed)
			}
			e.notes = append(e.notes, fmt.Sprintf("the version's number is not known: %v", err))
			return
		}
		if v.Digest() == e.target.Digest {
			e.target.PackageVersionID, e.target.Pushed = uint64(v.ID), v.UpdatedAt
			return
		}
	}
}

// fromLabels takes what the image says of its source.
func (e *examination) fromLabels(ctx context.Context, s *subject, m *oci.Manifest) {
	labels, err := s.labelsOf(ctx, m, e.target.Platforms)
	if err != nil {
		err = fmt.Errorf("the labels of the image are not known: %w", err)
		e.unlinked = cmp.Or(e.unlinked, err)
		e.notes = append(e.notes, err.Error())
	}
	e.target.Repository = cmp.Or(e.target.Repository, e.client.repositoryAt(labels[sourceLabel]))
	if revision := labels[revisionLabel]; revision != "" {
		e.target.Commits = append(e.target.Commits, revision)
	}
}

// labelsOf are the annotations of an image, and the labels of the configuration of the
// first of its platforms, which the others share.
func (s *subject) labelsOf(ctx context.Context, m *oci.Manifest, platforms []vuln.PlatformImage) (map[string]string, error) {
	if m.Annotations[sourceLabel] != "" && m.Annotations[revisionLabel] != "" || len(platforms) == 0 {
		return m.Annotations, nil
	}
	image, err := s.manifest(ctx, platforms[0].Digest)
	if err != nil {
		return m.Annotations, err
	}
	config, err := s.config(ctx, image)
	labels := map[string]string{}
	for _, from := range []map[string]string{config.Config.Labels, image.Annotations, m.Annotations} {
		for key, value := range from {
			labels[key] = value
		}
	}
	return labels, err
}

// repositoryAt reads "owner/name" out of the address of a repository at this GitHub.
func (c *Client) repositoryAt(address string) string {
	u, err := url.Parse(strings.TrimPrefix(address, "git+"))
	if err != nil || c.packages == nil {
		return ""
	}
	host := strings.TrimPrefix(c.packages.Host(), "api.")
	if transport.IsLoopback(host) {
		host = "github.com" // which an emulator stands for
	}
	if !strings.EqualFold(u.Host, host) {
		return ""
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "/" + strings.TrimSuffix(parts[1], ".git")
}

// fromProvenance takes the repository that the build provenance names, where nothing else
// does.
func (e *examination) fromProvenance(ctx context.Context) error {
	if e.target.Repository != "" || !e.asksAlerts() || e.github == nil || !e.client.isGHCR(e.target.Ref.Registry) {
		return nil
	}
	named := map[string]string{}
	for _, source := range e.sources(e.target) {
		if source.Name() != vuln.SourceAttestation && source.Name() != vuln.SourceGitHubAttestation {
			continue
		}
		report, err := source.Fetch(ctx, e.target)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || report == nil {
			continue // it says so in the report
		}
		for _, b := range report.Builds {
			if owner, name, ok := strings.Cut(b.Repository, "/"); ok && owner != "" && name != "" && !strings.ContainsAny(name, "/:") {
				named[strings.ToLower(b.Repository)] = b.Repository
			}
		}
	}
	if len(named) != 1 {
		return nil // none, or one of them may be a lie
	}
	for _, repository := range named {
		e.target.Repository = repository
	}
	return nil
}

// defaultBranch asks for that of the repository, whose alerts are of it.
func (e *examination) defaultBranch(ctx context.Context) {
	if e.target.Repository == "" || e.github == nil || !e.opts.asks(vuln.SourceCodeScanning) || !e.client.isGHCR(e.target.Ref.Registry) {
		return
	}
	r, err := e.github.Repository(ctx, e.target.Repository)
	if err != nil {
		e.notes = append(e.notes, fmt.Sprintf("the default branch of %s is not known: %v", e.target.Repository, err))
		return
	}
	e.target.DefaultBranch = r.DefaultBranch
}
