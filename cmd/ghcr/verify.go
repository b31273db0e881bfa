package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// attested is an image that documents may be attached to, in a registry or a layout.
type attested struct {
	src    attest.Target
	end    ghcr.End
	digest oci.Digest
}

// String names the image with its digest.
func (i attested) String() string { return placed(i.end, i.digest) }

// attested finds an image, its tag resolved once.
func (a *app) attested(ctx context.Context, s string) (attested, error) {
	end, err := a.sourceEnd(ctx, s)
	if err != nil {
		return attested{}, err
	}
	return a.attestedEnd(ctx, end)
}

func (a *app) attestedEnd(ctx context.Context, end ghcr.End) (attested, error) {
	i := attested{end: end}
	name := end.Tag
	switch end.Kind {
	case ghcr.EndArchive:
		return i, usage("%s: an archive of docker save has no place for signatures; an OCI layout has (oci:DIR)", end)
	case ghcr.EndLayout:
		layout, err := transfer.OpenLayout(end.Path)
		if err != nil {
			return i, err
		}
		i.src = layout
	default:
		client, err := a.client()
		if err != nil {
			return i, err
		}
		if i.src, err = client.Repository(end.Ref); err != nil {
			return i, err
		}
		name = end.Ref.Reference.String()
		if d := end.Ref.Reference.Digest; d != "" {
			name = d.String()
		}
	}
	d, err := i.src.Resolve(ctx, name)
	i.digest = d.Digest
	return i, err
}

// platform is the image of one platform, and the index that lists it.
func (i attested) platform(ctx context.Context, name string) (image attested, index oci.Digest, err error) {
	p, err := oci.ParsePlatform(name)
	if err != nil {
		return i, "", err
	}
	m, err := i.src.Manifest(ctx, i.digest.String())
	for err == nil && m.IsIndex() {
		index = m.Digest()
		var d oci.Descriptor
		if d, err = oci.SelectPlatform(m.Manifests, p); err != nil {
			return i, "", fmt.Errorf("%s: %w", i, err)
		}
		m, err = i.src.Manifest(ctx, d.Digest.String())
	}
	if err != nil {
		return i, "", err
	}
	if index == "" {
		return i, "", usage("%s is no index, so there is no platform to choose", i)
	}
	i.digest = m.Digest()
	i.end.Ref.Reference, i.end.Tag = oci.Reference{}, "" // the tag is the index's
	return i, index, nil
}

// checked is one document in what ghcr verify prints.
type checked struct {
	Subject       oci.Digest      `json:"subject"`
	Manifest      oci.Digest      `json:"manifest"`
	Document      oci.Digest      `json:"document"`
	PredicateType string          `json:"predicateType"`
	Layout        attest.Layout   `json:"layout"`
	Place         attest.Place    `json:"place"`
	Verified      bool            `json:"verified"`
	Signers       []attest.Signer `json:"signers"`
	Problem       string          `json:"problem,omitempty"`
}

// verification is what ghcr verify prints.
type verification struct {
	Schema   string     `json:"schema"`
	Ref      string     `json:"ref"`
	Digest   oci.Digest `json:"digest"`
	Verified bool       `json:"verified"`
	Checks   []checked  `json:"checks"`
	Unmet    []string   `json:"unmet"`
	Warnings []string   `json:"warnings"`
}

func (a *app) verifyCommand() *cobra.Command {
	var trust trustFlags
	var types []string
	var platform string
	var every bool
	cmd := &cobra.Command{
		Use:   "verify REF | oci:DIR",
		Short: "Verify who signed an image and what is attested of it",
		Long: `Verify that an image is signed, by a public key or by a certificate of Sigstore for an
identity, in any of the ways that cosign 1 to 3 and GitHub Actions keep signatures. With
--type it is the attestation of that type which must be signed: ` + predicateNames() + `, or
a URI. Prints every document that is attached, with who signed it or why that does not
count. What counts is said by flags alone: a signature by somebody else is none.

A signature of an index covers the images it lists. --platform asks for a signature of that
platform's image itself, --all-platforms for one of each.

Exit code 0 says that all that was asked for is there; 7 that it is not: not signed, signed
by somebody else, altered, or copied from another image. That something could not be read,
so that it is not known, is an error of its own.

What the registry lacks is looked for in GitHub's attestations API, where actions/attest keeps
what it makes. Nobody else is asked: for certificates --trusted-root has the authorities:
  gh attestation trusted-root > roots.jsonl`,
		Example: "  ghcr verify acme/app:v1 --key cosign.pub\n" +
			"  ghcr verify acme/app:v1 --repo acme/app --type provenance --trusted-root roots.jsonl",
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			if platform != "" && every {
				return usage("--platform and --all-platforms exclude each other")
			}
			scope := attest.ScopeDigest
			if every {
				scope = attest.ScopeImages
			}
			policy, err := trust.require(a, types, scope)
			if err != nil {
				return err
			}
			image, err := a.attested(cmd.Context(), given[0])
			if err == nil && platform != "" {
				image, policy.Index, err = image.platform(cmd.Context(), platform)
			}
			if err != nil {
				return err
			}
			result, err := a.hold(cmd.Context(), image, *policy)
			if result == nil {
				return fmt.Errorf("verify %s: %w", image, err)
			}
			var unmet *attest.PolicyError
			errors.As(err, &unmet)
			return errors.Join(a.print(verifyResult(image, result, unmet)), verifyError(image, err))
		},
	}
	flags := cmd.Flags()
	trust.add(flags)
	flags.StringSliceVar(&types, "type", nil, "`TYPE` of what must be signed (default signature); may be repeated")
	flags.StringVarP(&platform, "platform", "p", "", "the image for this `OS/ARCH` itself")
	flags.BoolVar(&every, "all-platforms", false, "each image of an index itself")
	return cmd
}

// verifyResult is what was found, in the forms in which it is printed.
func verifyResult(image attested, found *attest.Result, unmet *attest.PolicyError) result {
	v := verification{Schema: schema, Ref: image.String(), Digest: image.digest, Verified: unmet == nil, Checks: []checked{}, Unmet: []string{}, Warnings: []string{}}
	if unmet != nil {
		v.Unmet = unmetTexts(unmet)
	}
	r := result{head: []string{"VERIFIED", "TYPE", "BY, OR WHY NOT", "LAYOUT", "DOCUMENT"}}
	for _, w := range found.Warnings {
		v.Warnings = append(v.Warnings, w.Error())
	}
	for _, c := range found.Checks {
		one := checked{
			c.Attachment.Subject, c.Attachment.Manifest.Digest, c.Attachment.Layer.Digest, c.PredicateType,
			c.Attachment.Layout, c.Attachment.Place, len(c.Signers) > 0, append([]attest.Signer{}, c.Signers...), "",
		}
		verdict, who := "no", ""
		if one.Verified {
			var names []string
			for _, s := range c.Signers {
				names = append(names, s.String())
			}
			verdict, who = "yes", strings.Join(names, ", ")
		} else {
			one.Problem = oneLine(c.Err)
			who = one.Problem
		}
		v.Checks = append(v.Checks, one)
		r.rows = append(r.rows, []string{verdict, typeName(c.PredicateType), who, string(one.Layout), shortDigest(one.Document)})
		r.plain = append(r.plain, []string{verdict, typeName(c.PredicateType), who, string(one.Layout), one.Document.String()})
	}
	r.data = v
	r.foot = v.Ref + " is not verified"
	if v.Verified {
		r.ids = []string{image.digest.String()}
		r.foot = v.Ref + " is verified"
	}
	return r
}

// unverifiedError says that an image is not signed as it should be.
type unverifiedError struct {
	image string
	*attest.PolicyError
}

// Error names what is missing, and why what is there does not count.
func (e *unverifiedError) Error() string {
	return fmt.Sprintf("%s is not verified: %s", e.image, strings.Join(unmetTexts(e.PolicyError), "; "))
}

// Unwrap implements what errors.Is and errors.As look for.
func (e *unverifiedError) Unwrap() error { return e.PolicyError }

// verifyError names the image by what it was called.
func verifyError(image attested, err error) error {
	var unmet *attest.PolicyError
	if errors.As(err, &unmet) {
		return &unverifiedError{image.String(), unmet}
	}
	return err
}

func unmetTexts(e *attest.PolicyError) []string {
	var texts []string
	for _, u := range e.Unmet {
		text := typeName(cmp.Or(u.Requirement.PredicateType, attest.PredicateSignature))
		if u.Subject != e.Digest {
			text += " of " + u.Subject.String()
		}
		texts = append(texts, text+": "+oneLine(u.Err))
	}
	return texts
}

func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return printable(strings.ReplaceAll(err.Error(), "\n", ", "))
}

// unverifiedCode is the exit code of an image that is not verified. Where something
// could not be read because of the login or the network, it is not known whether it is.
func unverifiedCode(err error) int {
	var exchange *transport.Error
	var source *vuln.SourceError
	status := vuln.Status("")
	if errors.As(err, &source) {
		status = source.Status
	}
	switch {
	case errors.Is(err, ghcr.ErrRateLimited), status == vuln.StatusRateLimited:
		return exitRateLimited
	case errors.Is(err, ghcr.ErrUnauthorized), errors.Is(err, ghcr.ErrDenied), status == vuln.StatusForbidden:
		return exitPermission
	case status != "", errors.As(err, &exchange) && !errors.Is(err, ghcr.ErrNotFound):
		return exitFailure
	}
	return exitIntegrity
}

// verified is an end, if what it names meets the policy, such that only the very image
// that was verified can be read from it. A nil policy takes any.
func (a *app) verified(ctx context.Context, end ghcr.End, policy *attest.Policy) (ghcr.End, error) {
	if policy == nil {
		return end, nil
	}
	image, err := a.attestedEnd(ctx, end)
	if err != nil {
		return end, err
	}
	if _, err := a.hold(ctx, image, *policy); err != nil {
		return end, fmt.Errorf("nothing was moved: %w", verifyError(image, err))
	}
	if !a.flags.quiet {
		fmt.Fprintf(a.stderr, "ghcr: %s is verified\n", image)
	}
	if end.Kind == ghcr.EndRegistry {
		end.Ref.Reference.Digest = image.digest
	} else {
		end.Tag = image.digest.String()
	}
	return end, nil
}
