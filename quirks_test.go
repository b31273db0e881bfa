package ghcr_test

import (
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// otherwise are the values of quirks that are not those of the GHCR profile: what
// is only sometimes so, or not known for sure. The client must do its work with
// either.
var otherwise = map[string]func(q *ghcrtest.Quirks){
	"none":                   func(*ghcrtest.Quirks) {},
	"Spec":                   func(q *ghcrtest.Quirks) { *q = ghcrtest.Spec() },
	"PingPlaceholderScope":   func(q *ghcrtest.Quirks) { q.PingPlaceholderScope = false },
	"PingAcceptsAnyBearer":   func(q *ghcrtest.Quirks) { q.PingAcceptsAnyBearer = false },
	"DeniedWithoutChallenge": func(q *ghcrtest.Quirks) { q.DeniedWithoutChallenge = false },
	"RawBearerStatus":        func(q *ghcrtest.Quirks) { q.RawBearerStatus = 401 },
	"DirectBearer":           func(q *ghcrtest.Quirks) { q.DirectBearer = false },
	"DirectBearer, 401":      func(q *ghcrtest.Quirks) { q.DirectBearer, q.DeniedWithoutChallenge = false, false },
	"DirectBearerWrites":     func(q *ghcrtest.Quirks) { q.DirectBearerWrites = false },
	"AnonymousBearer":        func(q *ghcrtest.Quirks) { q.AnonymousBearer = false },
	"TokenMinimal":           func(q *ghcrtest.Quirks) { q.TokenMinimal, q.DirectBearer = false, false },
	"TokenFormatV1":          func(q *ghcrtest.Quirks) { q.TokenFormatV1, q.DirectBearer = false, false },
	"TokenPrivateStatus":     func(q *ghcrtest.Quirks) { q.TokenPrivateStatus = 403 },
	"TokenMissingStatus":     func(q *ghcrtest.Quirks) { q.TokenMissingStatus = 401 },
	"TokenMultiScope":        func(q *ghcrtest.Quirks) { q.TokenMultiScope, q.DirectBearer = false, false },
	"TokenTTL":               func(q *ghcrtest.Quirks) { q.TokenTTL, q.DirectBearer = time.Millisecond, false },
	"LateWriteDenial":        func(q *ghcrtest.Quirks) { q.LateWriteDenial, q.DirectBearer = false, false },
	"SingularUploadPath":     func(q *ghcrtest.Quirks) { q.SingularUploadPath = false },
	"ChunkCap":               func(q *ghcrtest.Quirks) { q.ChunkCap = 1000 },
	"ChunkCapTrigger":        func(q *ghcrtest.Quirks) { q.ChunkCapTrigger = "either" },
	"UploadStatus":           func(q *ghcrtest.Quirks) { q.UploadStatus = 404 },
	"UploadDelete":           func(q *ghcrtest.Quirks) { q.UploadDelete = 204 },
	"UploadUnknownCode":      func(q *ghcrtest.Quirks) { q.UploadUnknownCode = "BLOB_UPLOAD_INVALID" },
	"CommitDelay":            func(q *ghcrtest.Quirks) { q.CommitDelay = 11 * time.Second },
	"CommitLossRate":         func(q *ghcrtest.Quirks) { q.CommitLossRate = 0.2 },
	"EmptyBlob":              func(q *ghcrtest.Quirks) { q.EmptyBlob = "normal" },
	"MountSelf":              func(q *ghcrtest.Quirks) { q.MountSelf = false },
	"MountAnonymous":         func(q *ghcrtest.Quirks) { q.MountAnonymous = !q.MountAnonymous },
	"MountInvisible 401":     func(q *ghcrtest.Quirks) { q.MountInvisible = 401 },
	"MountInvisible 404":     func(q *ghcrtest.Quirks) { q.MountInvisible = 404 },
	"BlobRedirect":           func(q *ghcrtest.Quirks) { q.BlobRedirect = false },
	"CDNRejectsAuth":         func(q *ghcrtest.Quirks) { q.CDNRejectsAuth = 403 },
	"CDNHead":                func(q *ghcrtest.Quirks) { q.CDNHead = 200 },
	"SignedURLTTL":           func(q *ghcrtest.Quirks) { q.SignedURLTTL = time.Hour },
	"OmitAcceptRanges":       func(q *ghcrtest.Quirks) { q.OmitAcceptRanges = false },
	"MissingBlobDetails":     func(q *ghcrtest.Quirks) { q.MissingBlobDetails = "first" },
	"ManifestConditional":    func(q *ghcrtest.Quirks) { q.ManifestConditional = true },
	"StrictIndexAccept":      func(q *ghcrtest.Quirks) { q.StrictIndexAccept = false },
	"ManifestDelete":         func(q *ghcrtest.Quirks) { q.ManifestDelete = 202 },
	"OmitOCISubject":         func(q *ghcrtest.Quirks) { q.OmitOCISubject, q.Referrers = false, "implemented" },
	"Referrers 303":          func(q *ghcrtest.Quirks) { q.Referrers = "303" },
	"Referrers empty":        func(q *ghcrtest.Quirks) { q.Referrers = "empty" },
	"CheckIndexChildren":     func(q *ghcrtest.Quirks) { q.CheckIndexChildren = true },
	"TagOrder":               func(q *ghcrtest.Quirks) { q.TagOrder = "lexical" },
	"TagPageMax":             func(q *ghcrtest.Quirks) { q.TagPageMax, q.TagPageDefault = 2, 2 },
	"TagLinkN0":              func(q *ghcrtest.Quirks) { q.TagLinkN0 = false },
	"UnmatchedRoute":         func(q *ghcrtest.Quirks) { q.UnmatchedRoute = 404 },
	"FirstPushVisibility":    func(q *ghcrtest.Quirks) { q.FirstPushVisibility = ghcrtest.Public },
	"RegistryReadLimit":      func(q *ghcrtest.Quirks) { q.RegistryReadLimit = 25 },
	"RegistryWriteLimit":     func(q *ghcrtest.Quirks) { q.RegistryWriteLimit = 25 },
	"LimitOmitAllowed":       func(q *ghcrtest.Quirks) { q.LimitOmitAllowed, q.RegistryWriteLimit = true, 25 },
	"LimitRetryAfterHeader":  func(q *ghcrtest.Quirks) { q.LimitRetryAfterHeader, q.RegistryReadLimit = true, 25 },
	"RESTNumericLinks":       func(q *ghcrtest.Quirks) { q.RESTNumericLinks = false },
	"RESTWindow":             func(q *ghcrtest.Quirks) { q.RESTWindow = 0 },
	"RESTUsersForOrgs":       func(q *ghcrtest.Quirks) { q.RESTUsersForOrgs = false },
	"RESTCredentialRules":    func(q *ghcrtest.Quirks) { q.RESTCredentialRules = false },
	"RESTMaskForbidden":      func(q *ghcrtest.Quirks) { q.RESTMaskForbidden = false },
	"RESTLastTagged":         func(q *ghcrtest.Quirks) { q.RESTLastTagged = false },
	"RESTDownloadLimit":      func(q *ghcrtest.Quirks) { q.RESTDownloadLimit = 0 },
	"RESTRestoreConflict":    func(q *ghcrtest.Quirks) { q.RESTRestoreConflict = 409 },
	"RESTRestoreTags":        func(q *ghcrtest.Quirks) { q.RESTRestoreTags = false },
	"RESTNewIDOnRepush":      func(q *ghcrtest.Quirks) { q.RESTNewIDOnRepush = false },
	"RESTSameTimestamp":      func(q *ghcrtest.Quirks) { q.RESTSameTimestamp = true },
	"RESTStaleness":          func(q *ghcrtest.Quirks) { q.RESTStaleness = 2 * time.Second },
	"RESTStaleness, long":    func(q *ghcrtest.Quirks) { q.RESTStaleness = 25 * time.Second },
	"RESTConditional":        func(q *ghcrtest.Quirks) { q.RESTConditional = false },
	"RESTLimits":             func(q *ghcrtest.Quirks) { q.RESTLimits = false },
	"RESTHourly":             func(q *ghcrtest.Quirks) { q.RESTHourly = 300 },
	"RESTPoints":             func(q *ghcrtest.Quirks) { q.RESTPoints = 20 },
	"RESTConcurrent":         func(q *ghcrtest.Quirks) { q.RESTConcurrent = 1 },
	"RESTLimitStatus":        func(q *ghcrtest.Quirks) { q.RESTLimitStatus, q.RESTPoints = 429, 20 },
	"RESTRetryAfter":         func(q *ghcrtest.Quirks) { q.RESTRetryAfter, q.RESTPoints = false, 20 },
}

// TestClientPassesWithEither does the main job on a GHCR with each quirk as it is
// not known to be.
func TestClientPassesWithEither(t *testing.T) {
	for name, change := range otherwise {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := ghcrtest.GHCR()
				change(&q)
				s := newSandbox(t, ghcrtest.Options{Quirks: &q})
				img := ghcrtest.Attested(image(1, 3), image(2, 3))
				ghcrtest.Refer(img, "application/spdx+json", "{}")
				ghcrtest.Sign(img)
				layout := s.layout(img)
				all := transfer.Options{Recursive: true}
				s.mustCopy(layout, "acme/app:v1", all)
				s.mustCopy(layout, "acme/app:v1", transfer.Options{})
				s.mustCopy("acme/app:v1", "acme/app:v2", transfer.Options{Tags: []string{"v3", "v4"}})
				s.mustCopy("acme/app:v2", "acme/prod:v1", all)
				dir := t.TempDir()
				s.mustCopy("acme/prod:v1", "oci:"+dir, all)
				s.mustCopy("oci:"+dir+":v1", "acme/back:v1", all)
				for repo, tag := range map[string]string{"acme/app": "v4", "acme/prod": "v1", "acme/back": "v1"} {
					s.holds(repo, tag, img)
				}
				ref, err := s.client.ParseRef("acme/back")
				if err != nil {
					t.Fatal(err)
				}
				repo, err := s.client.Repository(ref)
				if err != nil {
					t.Fatal(err)
				}
				if list, err := repo.Referrers(t.Context(), img.Digest()); err != nil || len(list) != 1 {
					t.Errorf("referrers: %v, %v", list, err)
				}
				if tags, err := repo.TagNames(t.Context()); err != nil || len(tags) < 2 {
					t.Errorf("tags: %v, %v", tags, err)
				}
				s.takeAwayAndBack(img)
			})
		})
	}
}

// takeAwayAndBack untags, deletes and restores an image of acme/app.
func (s *sandbox) takeAwayAndBack(img *ghcrtest.Image) {
	s.t.Helper()
	if _, err := s.client.Untag(s.t.Context(), ghcr.UntagOptions{}, s.refs("acme/app:v3", "acme/app:v4")...); err != nil {
		s.t.Error(err)
	}
	s.holds("acme/app", "v1", img)
	s.add("acme/app", "stays", image(9, 1))
	deleted, err := s.delete(ghcr.DeleteOptions{Undo: s.t.TempDir() + "/undo.json"}, "acme/app:v1", "acme/app:v2")
	if err != nil {
		s.t.Fatal(err)
	}
	if d := s.resolves("acme/app", img.Digest().String()); d != "" {
		s.t.Errorf("%s is there still", d)
	}
	undo, err := ghcr.ReadUndo(deleted.Undo)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.client.Restore(s.t.Context(), s.ref("acme/app"), ghcr.RestoreOptions{Undo: undo}); err != nil {
		s.t.Error(err)
	}
	for _, tag := range []string{"v1", "v2"} {
		s.holds("acme/app", tag, img)
	}
}
