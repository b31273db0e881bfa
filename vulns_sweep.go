package ghcr

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// SweepOptions say what a sweep over many images looks at. The zero value looks at all.
type SweepOptions struct {
	// VulnOptions hold for each image. Platform must be empty.
	VulnOptions
	// Match chooses versions; nil is all. What is attached to an image, and what an index
	// lists, is no version of its own: it is part of the image.
	Match func(*Version) bool
}

// ScannedVersion is what is known of the vulnerabilities of one version.
type ScannedVersion struct {
	Version *Version
	Report  *vuln.VulnerabilityReport
}

// Vulnerable tells whether a finding is known that counts and is about the image. That
// it is false means something only if the report is complete.
func (v ScannedVersion) Vulnerable() bool { return len(v.Report.Image()) > 0 }

// reportsAhead is how many reports are made ahead of the one that is read.
const reportsAhead = 8

// PackageVulnerabilities reports of each image of a package, the newest first: which
// versions are vulnerable, and which are not scanned. What is attached to an image is no
// image, and neither is an earlier state of a list of referrers. It takes few requests: the lists and
// manifests of [Client.Inventory], one request to GitHub's attestations API for 1024 digests,
// and the alerts of each repository once. Documents are fetched once ever as long as
// Options.CacheDir is kept. What was attached a moment ago is not seen before the list of
// versions has it (docs/quirks.md#rest-staleness).
//
// Errors, of which one ends the sequence: those of [Client.Inventory], the context's;
// [ErrInvalid] for options that mean nothing. What a source does not tell is in the
// reports.
func (c *Client) PackageVulnerabilities(ctx context.Context, image oci.ImageRef, opts SweepOptions) iter.Seq2[ScannedVersion, error] {
	return func(yield func(ScannedVersion, error) bool) {
		err := opts.checkSweep()
		var sweep *sweep
		if err == nil {
			sweep, err = c.newLook(opts.VulnOptions).sweep(ctx, image, packages.Package{}, opts)
		}
		if err == nil {
			err = sweep.listAttestations(ctx, sweep.digests())
		}
		if err != nil {
			yield(ScannedVersion{}, fmt.Errorf("vulnerabilities of %s: %w", image.Repository(), err))
			return
		}
		sweep.reports(ctx, yield)
	}
}

func (o SweepOptions) checkSweep() error {
	if o.Platform != "" {
		return oci.Invalid("a sweep is over all platforms, not only %s", o.Platform)
	}
	return o.check()
}

// sweep is one look at all images of a package.
type sweep struct {
	*look
	subject  *subject
	pkg      packages.Package
	versions []*Version // the images that are asked about
	attached attached
}

// sweep takes an inventory of a package. What the API says of the package is asked for
// if it is not known.
func (l *look) sweep(ctx context.Context, image oci.ImageRef, pkg packages.Package, opts SweepOptions) (*sweep, error) {
	s, err := l.client.subject(image)
	if err != nil {
		return nil, err
	}
	if s.api == nil {
		return nil, s.noAPI("sweep")
	}
	inv, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	if pkg.Name == "" {
		if pkg, err = s.api.Get(ctx, s.owner, s.name); err != nil {
			return nil, err
		}
	}
	sw := &sweep{look: l, subject: s, pkg: pkg}
	sw.attached.source = newInventorySource(s, inv)
	if n := len(inv.Unreadable()); n > 0 {
		sw.attached.unread = fmt.Errorf("%d of its manifests could not be read, and what these are attached to is not known; the first is %s: %w",
			n, inv.Unreadable()[0].Digest(), inv.Unreadable()[0].Unreadable)
	}
	for _, v := range inv.Versions {
		if isRoot(inv, v) && (opts.Match == nil || opts.Match(v)) {
			sw.versions = append(sw.versions, v)
		}
	}
	return sw, nil
}

// isRoot tells an image from what is part of one or attached to one. What could not be
// read may be an image.
func isRoot(inv *Inventory, v *Version) bool {
	switch v.Node.Role() {
	case oci.RoleImage, oci.RoleUnknown:
		return true
	case oci.RoleIndex:
		return !wasReferrers(inv.Graph, v)
	}
	return false
}

// wasReferrers tells an earlier state of the index that stands in for the list of
// referrers, which the tag has left, from an index of images: all that it lists is
// attached to something, or was an artifact before it went.
func wasReferrers(g *oci.Graph, v *Version) bool {
	list := v.Node.Manifest.Manifests
	return len(v.Tags) == 0 && len(list) > 0 && !slices.ContainsFunc(list, func(d oci.Descriptor) bool {
		if n := g.Node(d.Digest); n != nil && n.Manifest != nil {
			return n.Manifest.Subject == nil
		}
		return d.ArtifactType == "" || oci.HasPlatform(d)
	})
}

// digests are those that an attestation may be about.
func (sw *sweep) digests() []oci.Digest {
	var list []oci.Digest
	for _, v := range sw.versions {
		list = append(list, v.Digest())
		for _, child := range v.Node.Children {
			if child.Attests == nil {
				list = append(list, child.Digest)
			}
		}
		for _, d := range v.Node.Missing {
			list = append(list, d.Digest)
		}
	}
	return list
}

func (sw *sweep) listAttestations(ctx context.Context, digests []oci.Digest) error {
	if sw.github == nil || !sw.opts.asks(vuln.SourceGitHubAttestation) {
		return nil
	}
	return sw.github.ListAttestations(ctx, sw.subject.owner, digests)
}

// reports makes a report of each image, some ahead of the one that is yielded.
func (sw *sweep) reports(ctx context.Context, yield func(ScannedVersion, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		report *vuln.VulnerabilityReport
		err    error
	}
	results := make([]chan result, len(sw.versions))
	asked := make(chan struct{})
	first := turn{asked: sync.OnceFunc(func() { close(asked) })}
	begin := func(i int) {
		if i >= len(results) {
			return
		}
		at := turn{ahead: asked}
		if i == 0 {
			at = first
		}
		done := make(chan result, 1)
		results[i] = done
		go func() {
			report, err := sw.report(ctx, sw.versions[i], at)
			if i == 0 {
				first.asked() // it may not have come to it
			}
			done <- result{report, err}
		}()
	}
	for i := range reportsAhead {
		begin(i)
	}
	defer func() {
		cancel()
		for _, r := range results { // none outlives the call
			if r != nil {
				<-r
			}
		}
	}()
	for i, v := range sw.versions {
		r := <-results[i]
		results[i] = nil
		if r.err != nil {
			yield(ScannedVersion{}, fmt.Errorf("vulnerabilities of %s@%s: %w", sw.subject.image.Repository(), v.Digest(), r.err))
			return
		}
		begin(i + reportsAhead)
		if !yield(ScannedVersion{v, r.report}, nil) {
			return
		}
	}
}

func (sw *sweep) report(ctx context.Context, v *Version, at turn) (*vuln.VulnerabilityReport, error) {
	e := &examination{look: sw.look, attached: &sw.attached, turn: at}
	ref := sw.subject.image.With(oci.Reference{Digest: v.Digest()})
	if names := v.Node.Names(); len(names) > 0 {
		ref.Reference.Tag = names[0]
	}
	e.target = vuln.Target{
		Ref: ref, Digest: v.Digest(), PackageVersionID: uint64(v.ID), Pushed: v.UpdatedAt,
		Repository: cmp.Or(sw.opts.Repository, sw.pkg.Repository),
	}
	if v.Unreadable != nil {
		e.notes = append(e.notes, fmt.Sprintf("the manifest could not be read, so its platforms are not known: %v", v.Unreadable))
		return e.report(ctx, e.target)
	}
	if err := e.sweepPlatforms(ctx, sw, v); err != nil {
		return nil, err
	}
	if e.asksAlerts() && (e.target.Repository == "" || e.asksCommits(ctx)) {
		e.fromLabels(ctx, sw.subject, v.Node.Manifest)
	}
	if err := e.fromProvenance(ctx); err != nil {
		return nil, err
	}
	e.defaultBranch(ctx)
	return e.report(ctx, e.target)
}

// sweepPlatforms takes the images of an index from the inventory, where a platform is
// what the index says; a single image needs its configuration only if a report has to
// say which platform it is.
func (e *examination) sweepPlatforms(ctx context.Context, sw *sweep, v *Version) error {
	m := v.Node.Manifest
	if m.IsIndex() {
		return e.platforms(ctx, sw.subject, m)
	}
	image := vuln.PlatformImage{Digest: m.Digest()}
	if m.Config != nil {
		image.Config = m.Config.Digest
	}
	if v.Node.Platform != nil {
		image.Platform = *v.Node.Platform
	}
	e.target.Platforms = []vuln.PlatformImage{image}
	return nil
}

// asksCommits tells whether it matters which commit an image is of: code scanning has
// something that may be about it. Else no configuration is fetched.
func (e *examination) asksCommits(ctx context.Context) bool {
	return e.github != nil && e.opts.asks(vuln.SourceCodeScanning) && e.github.Scanned(ctx, e.target.Repository)
}

// ScannedPackage is what is known of the images of one package.
type ScannedPackage struct {
	Package  packages.Package
	Image    oci.ImageRef // without tag or digest
	Versions []ScannedVersion
	// Err is why there are no reports, or not all.
	Err error
}

// OwnerVulnerabilities reports of all images of all packages of an owner that the login
// may see. It asks GitHub's attestations API about the digests of several packages at once. A
// package that can't be read does not end it: the error is beside what was read.
//
// Errors, of which one ends the sequence: those of [packages.Client.List], the
// context's; [ErrInvalid] for options that mean nothing.
func (c *Client) OwnerVulnerabilities(ctx context.Context, owner string, opts SweepOptions) iter.Seq2[ScannedPackage, error] {
	return func(yield func(ScannedPackage, error) bool) {
		list, err := c.sweepList(ctx, owner, opts)
		if err != nil {
			yield(ScannedPackage{}, fmt.Errorf("vulnerabilities of the packages of %s: %w", owner, err))
			return
		}
		look := c.newLook(opts.VulnOptions)
		for len(list) > 0 {
			n, sweeps, errs := c.sweepGroup(ctx, look, owner, list, opts)
			for i, p := range list[:n] {
				result := ScannedPackage{Package: p, Image: c.imageOf(owner, p.Name), Err: errs[i]}
				if sweeps[i] != nil {
					sweeps[i].reports(ctx, func(v ScannedVersion, err error) bool {
						if result.Err = err; err == nil {
							result.Versions = append(result.Versions, v)
						}
						return err == nil
					})
				}
				if ctx.Err() != nil {
					break
				}
				if !yield(result, nil) {
					return
				}
			}
			if ctx.Err() != nil {
				yield(ScannedPackage{}, context.Cause(ctx))
				return
			}
			list = list[n:]
		}
	}
}

func (c *Client) sweepList(ctx context.Context, owner string, opts SweepOptions) ([]packages.Package, error) {
	if err := opts.checkSweep(); err != nil {
		return nil, err
	}
	api, err := c.Packages()
	if err != nil {
		return nil, err
	}
	return api.List(ctx, owner, packages.ListOptions{})
}

// groupDigests is how many digests are gathered before GitHub is asked about them: as
// many as it takes at once.
const groupDigests = 1024

// sweepGroup takes inventories of the first packages of a list, until there are enough
// digests to ask about at once. It returns how many packages these are.
func (c *Client) sweepGroup(ctx context.Context, l *look, owner string, list []packages.Package, opts SweepOptions) (n int, sweeps []*sweep, errs []error) {
	var digests []oci.Digest
	for n < len(list) && len(digests) < groupDigests && ctx.Err() == nil {
		sw, err := l.sweep(ctx, c.imageOf(owner, list[n].Name), list[n], opts)
		sweeps, errs = append(sweeps, sw), append(errs, err)
		n++
		if err == nil {
			digests = append(digests, sw.digests()...)
		}
	}
	for _, sw := range sweeps {
		if sw != nil {
			sw.listAttestations(ctx, digests) // whose error is the context's
			break
		}
	}
	return n, sweeps, errs
}

func (c *Client) imageOf(owner, name string) oci.ImageRef {
	return oci.ImageRef{Registry: c.opts.Registry, Name: owner + "/" + name}
}
