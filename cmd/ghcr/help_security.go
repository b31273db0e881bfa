package main

const signaturesTopic = `
ghcr verify, and --verify of push, pull, cp and promote, ask who signed an image. Read are
signatures and attestations in all forms of cosign 1 to 3 and GitHub Actions: in the tags
sha256-<hex>.sig and .att, as referrers, and in GitHub's attestations API.

By key          --key cosign.pub; several may be named, and one suffices
By certificate  --identity SUBJECT --issuer URL, each exactly, or by --identity-regexp and
                --issuer-regexp, which must match all of it; --repo OWNER/NAME is any
                workflow of that repository at GitHub
                --trusted-root roots.jsonl, as gh attestation trusted-root prints it, or
                else the newest that ghcr trusted-root or cosign has fetched

--type says what must be signed: signature (the image itself, the default), spdx,
cyclonedx, provenance, vulns, vuln, openvex, or the URI of a predicate type.

A signature of an index covers the images it lists. What is verified is a digest, and what
is then moved is that digest, wherever the tag points by then.

ghcr makes no signatures. cosign sign does, and ghcr attest attaches what it made.`

const vulnerabilitiesTopic = `
GitHub does not scan images. A report joins what others wrote:

packages-api        an endpoint that GitHub does not have; asked once a day
attestation         what is attached to the image in the registry
github-attestation  GitHub's attestations API
code-scanning       what scanners uploaded for the linked repository
dependabot          alerts of the linked repository
ghsa, osv           advisories for the packages of an SBOM: --enrich; names leave this machine
file                --report FILE

A report is complete, partial or unavailable. Only of a complete one is an empty list good
news; what nobody has scanned is "not scanned". LINK says how surely a finding is about the
image:

digest-signed   a document that names its digest, signed by --key, --identity or --repo
digest          a document that names it
commit          a scan of this image's name at the commit it was built from
category/path   a scan of this image's name at some time
repository      only the repository is the same; not judged without --include-repository

Left out is what a statement of VEX says (attested, or --vex FILE), then what ignore files
list (--ignore-file), then what has no fix (--ignore-unfixed, --only-fixed). What is left is
judged by --fail-on, --fail-on-kev, --epss and --max-age. An ignore file is
  - id: CVE-2026-1234
    purl: pkg:deb/debian/openssl     # or path: usr/lib/**; all that is given must hold
    until: 2026-12-01
    reason: not reachable

Security data may need another token than packages: GHCR_SECURITY_TOKEN, with the scope
security_events, or a fine-grained one that may read code scanning and Dependabot alerts.
In GitHub Actions a summary, annotations and outputs (findings, highest, complete) are
written as well. docs/vulnerabilities.md has more.`
