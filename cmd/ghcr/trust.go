package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/attest/keyless"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// trustFlags say whose signature counts: one of these keys, or a certificate for this
// identity.
type trustFlags struct {
	keys           []string
	identity       string
	identityRegexp string
	issuer         string
	issuerRegexp   string
	repo           string
	roots          string
}

func (f *trustFlags) add(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.keys, "key", nil, "public key in this PEM `FILE`; may be repeated, and any one suffices")
	flags.StringVar(&f.identity, "identity", "", "certificate for this `SUBJECT`: a workflow's URL with its ref, or an address")
	flags.StringVar(&f.identityRegexp, "identity-regexp", "", "certificate for a subject that matches this `RE` whole")
	flags.StringVar(&f.issuer, "issuer", "", "`URL` of who vouches for the identity (default GitHub Actions for https://github.com/…)")
	flags.StringVar(&f.issuerRegexp, "issuer-regexp", "", "who vouches for the identity matches this `RE` whole")
	flags.StringVar(&f.repo, "repo", "", "certificate for any workflow of this `OWNER/NAME` at GitHub")
	flags.StringVar(&f.roots, "trusted-root", "", "`FILE` of trusted roots, for certificates (env GHCR_TRUSTED_ROOT; default: the newest that ghcr trusted-root or cosign fetched)")
}

// stray is a flag that does nothing without another one; empty if there is none.
func (f *trustFlags) stray() string {
	for _, flag := range []struct{ name, value string }{
		{"--key", strings.Join(f.keys, "")}, {"--identity", f.identity}, {"--identity-regexp", f.identityRegexp},
		{"--issuer", f.issuer}, {"--issuer-regexp", f.issuerRegexp}, {"--repo", f.repo}, {"--trusted-root", f.roots},
	} {
		if flag.value != "" {
			return flag.name
		}
	}
	return ""
}

func (f *trustFlags) certificates() bool {
	return f.identity != "" || f.identityRegexp != "" || f.issuer != "" || f.issuerRegexp != "" || f.repo != ""
}

// verifiers are those whose word counts, any one of them.
func (f *trustFlags) verifiers(a *app) ([]attest.Verifier, error) {
	var list []attest.Verifier
	if len(f.keys) > 0 {
		var text bytes.Buffer
		for _, file := range f.keys {
			raw, err := os.ReadFile(file)
			if err != nil {
				return nil, usage("--key: %w", err)
			}
			// Each file by itself, so that an error names it.
			if _, err := attest.ParseKeys(raw); err != nil {
				return nil, fmt.Errorf("--key %s: %w", file, err)
			}
			text.Write(append(raw, '\n'))
		}
		keys, err := attest.ParseKeys(text.Bytes())
		if err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		list = append(list, keys)
	}
	if !f.certificates() {
		if f.roots != "" {
			return nil, usage("--trusted-root is for certificates: say whose, with --identity or --repo")
		}
		return list, nil
	}
	identity, err := f.signer()
	if err != nil {
		return nil, err
	}
	roots, err := f.readRoots(a)
	if err != nil {
		return nil, err
	}
	v, err := keyless.New(roots, identity)
	if err != nil {
		return nil, err
	}
	return append(list, v), nil
}

var repoName = regexp.MustCompile(`^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$`)

// signer is whose certificate counts.
func (f *trustFlags) signer() (keyless.Identity, error) {
	i := keyless.Identity{Issuer: f.issuer, IssuerRegexp: f.issuerRegexp, Subject: f.identity, SubjectRegexp: f.identityRegexp}
	if f.repo != "" {
		if !repoName.MatchString(f.repo) {
			return i, usage("--repo %q: want OWNER/NAME", f.repo)
		}
		i.SourceRepository = "https://github.com/" + f.repo
		if i.Subject == "" && i.SubjectRegexp == "" {
			i.SubjectRegexp = regexp.QuoteMeta(i.SourceRepository+"/") + ".*"
		}
	}
	if i.Subject == "" && i.SubjectRegexp == "" {
		return i, usage("an issuer alone lets in everybody it vouches for: say whose certificate, with --identity, --identity-regexp or --repo")
	}
	if i.Issuer == "" && i.IssuerRegexp == "" {
		if f.repo == "" && !strings.HasPrefix(i.Subject, "https://github.com/") {
			return i, usage("say who vouches for the identity, with --issuer or --issuer-regexp")
		}
		i.Issuer = keyless.GitHubActions
	}
	return i, nil
}

// readRoots reads the trusted roots that are named, or else those that were fetched.
func (f *trustFlags) readRoots(a *app) (*keyless.Roots, error) {
	file := cmp.Or(f.roots, a.getenv("GHCR_TRUSTED_ROOT"))
	if file == "" {
		var err error
		if file, err = a.cachedRoot(); err != nil {
			return nil, err
		}
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, usage("--trusted-root: %w", err)
	}
	defer in.Close()
	roots, err := keyless.ReadRoots(in)
	if err != nil {
		return nil, fmt.Errorf("--trusted-root %s: %w", file, err)
	}
	return roots, nil
}

// cachedRoot is the newest trusted root that was fetched by this command, by cosign or
// by another client of Sigstore. It is said how old it is, for it does not say so itself.
func (a *app) cachedRoot() (string, error) {
	dir := a.getenv("TUF_ROOT")
	if home := a.getenv("HOME"); dir == "" && home != "" {
		dir = filepath.Join(home, ".sigstore", "root")
	}
	var names []string
	if cache := a.cacheDir(); cache != "" {
		names = append(names, filepath.Join(cache, keptRoot))
	}
	if dir != "" {
		names = append(names, filepath.Join(dir, "targets", "trusted_root.json"))
		found, err := filepath.Glob(filepath.Join(dir, "*", "targets", "trusted_root.json"))
		if err != nil {
			return "", err
		}
		names = append(names, found...)
	}
	file, newest := "", time.Time{}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(newest) {
			file, newest = name, info.ModTime()
		}
	}
	if file == "" {
		return "", usage("certificates need trusted roots, and none are kept here: ghcr trusted-root fetches Sigstore's; for private repositories gh attestation trusted-root > roots.jsonl, then --trusted-root roots.jsonl")
	}
	if !a.flags.quiet {
		fmt.Fprintf(a.stderr, "ghcr: note: trusted root is %s, fetched %s\n", file, ago(newest, time.Now()))
	}
	return file, nil
}

// predicateTypes are the short names of what is attested, as --type takes them. What is
// written has the version beside it.
var predicateTypes = []struct{ name, matches, written string }{
	{"signature", attest.PredicateSignature, ""},
	{"spdx", attest.PredicateSPDX, vuln.PredicateSPDX},
	{"cyclonedx", attest.PredicateCycloneDX, vuln.PredicateCycloneDX},
	{"provenance", attest.PredicateProvenance, vuln.PredicateSLSA},
	{"vulns", attest.PredicateVulns, vuln.PredicateVulns},
	{"vuln", attest.PredicateCosignVuln, vuln.PredicateCosignVuln},
	{"openvex", attest.PredicateOpenVEX, vuln.PredicateOpenVEX},
}

func predicateNames() string {
	var names []string
	for _, t := range predicateTypes {
		names = append(names, t.name)
	}
	return strings.Join(names, ", ")
}

// predicateType reads --type, which is a short name or a URI.
func predicateType(s string, write bool) (string, error) {
	for _, t := range predicateTypes {
		if s != t.name {
			continue
		}
		if !write {
			return t.matches, nil
		}
		if t.written == "" {
			return "", usage("--type %s: ghcr does not sign; cosign sign does", s)
		}
		return t.written, nil
	}
	if !strings.Contains(s, "://") {
		return "", usage("--type %q: want a URI, or one of %s", s, predicateNames())
	}
	return s, nil
}

// typeName is the short name of a predicate type, or what the type itself says.
func typeName(uri string) string {
	for _, t := range predicateTypes {
		if rest, ok := strings.CutPrefix(uri, t.matches); ok && (rest == "" || rest[0] == '/') {
			return t.name
		}
	}
	return cmp.Or(uri, "unknown")
}

// verifyFlags are those of commands that move an image only if it is signed.
type verifyFlags struct {
	on bool
	trustFlags
	types []string
}

func (f *verifyFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.on, "verify", false, "first verify that SRC is signed, by --key, --identity or --repo")
	f.trustFlags.add(flags)
	flags.StringSliceVar(&f.types, "type", nil, "with --verify, `TYPE` of what must be signed (default signature)")
}

// policy is what must be attached to what is moved; nil if nothing.
func (f *verifyFlags) policy(a *app) (*attest.Policy, error) {
	if !f.on {
		if name := f.stray(); name != "" || len(f.types) > 0 {
			return nil, usage("%s does nothing without --verify", cmp.Or(name, "--type"))
		}
		return nil, nil
	}
	return f.require(a, f.types, attest.ScopeDigest)
}

// require makes a policy that asks for each type, signed by those that are named.
func (f *trustFlags) require(a *app, types []string, scope attest.Scope) (*attest.Policy, error) {
	by, err := f.verifiers(a)
	if err != nil {
		return nil, err
	}
	if len(by) == 0 {
		return nil, usage("say whose signature counts: --key FILE, --identity SUBJECT, or --repo OWNER/NAME")
	}
	if len(types) == 0 {
		types = []string{"signature"}
	}
	p := &attest.Policy{}
	for _, name := range types {
		uri, err := predicateType(name, false)
		if err != nil {
			return nil, err
		}
		p.Require = append(p.Require, attest.Requirement{PredicateType: uri, By: by, Scope: scope})
	}
	return p, nil
}

// verifyHint says what to do about a signature that does not count.
func verifyHint(err error) string {
	var unmet *attest.PolicyError
	if !errors.As(err, &unmet) {
		return ""
	}
	switch is := func(kinds ...error) bool {
		return slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) })
	}; {
	case is(attest.ErrWrongSubject, attest.ErrBadSignature):
		return "it was altered, copied from another image, or signed by another key: do not use it before you know which"
	case is(attest.ErrWrongKey, attest.ErrWrongIdentity):
		return "ghcr verify with --json prints each document and who signed it; is this who should have?"
	case is(attest.ErrNoLogEntry, attest.ErrNoTimestamp, attest.ErrUntrusted):
		return "the trusted root may be too old, or that of another Sigstore: gh attestation trusted-root > roots.jsonl"
	case is(attest.ErrNoSignature):
		return "ghcr attest list shows what is attached; ghcr cp and push bring signatures along with --recursive"
	}
	return ""
}
