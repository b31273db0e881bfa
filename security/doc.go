// Package security hides GitHub's REST APIs for security data: attestations, code
// scanning, Dependabot, the dependency graph and advisories, and OSV beside them.
// What is hidden is that the same 403 or 404 means switched off, not allowed or not
// there, that lists of attestations no longer have the attestations in them, and what
// it takes to ask about a thousand images without a thousand requests.
//
// Begin with [New] and [Client.Look]. A [Look] is one look at what is there now: what
// it has asked for once it does not ask for again. Its methods return sources for
// [vuln.Collect].
//
// The login for these APIs may be another than that for packages: GitHub takes tokens
// here that it does not take there. No credential goes anywhere but to the API: not to
// the address that an attestation is kept at, and not to OSV.
package security
