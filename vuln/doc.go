// Package vuln hides that nobody scans images on GHCR: what is known of the
// vulnerabilities of an image was written by somebody's scanner, in one of many
// formats, and put in one of many places. It reads these documents, says how
// surely each is about the image, joins what several say of the same flaw, and
// never lets missing data look like good news.
//
// It does no network I/O. Whoever can reach a registry or GitHub implements
// [Source], for which [Reader] does all but the fetching; [Collect] asks the
// sources side by side and makes one [VulnerabilityReport]. A [Gate] judges it,
// [Compare] tells two apart, and the Write functions print it.
//
//	report, err := vuln.Collect(ctx, sources, target, vuln.Options{})
//	verdict := vuln.Gate{FailOn: vuln.SeverityHigh}.Check(report, time.Now())
//
// A report that no scan was read for is [StateUnavailable]: it has no counts, and
// no gate calls it clean.
package vuln
