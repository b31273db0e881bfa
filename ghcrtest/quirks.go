package ghcrtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Quirks are the ways in which GHCR departs from the specification, or from what
// clients expect, each a switch of its own. [GHCR] and [Spec] return the two
// profiles; change single fields of them to imitate what is only sometimes so.
// docs/quirks.md has a section for each, named as the field is: that of ChunkCap is
// docs/quirks.md#chunk-cap. The zero value is no profile: begin with one of the two.
type Quirks struct {
	// Logins.

	PingPlaceholderScope   bool          // the challenge of /v2/ carries the scope repository:user/image:pull
	PingAcceptsAnyBearer   bool          // /v2/ answers 200 to anything in base64
	DeniedWithoutChallenge bool          // a refused Authorization is a 403 without a challenge, not a 401 with one
	RawBearerStatus        int           // what a GitHub token gets that is sent as a bearer without base64
	DirectBearer           bool          // base64 of a GitHub token is taken as a bearer
	DirectBearerWrites     bool          // … for writes too
	AnonymousBearer        bool          // QQ== reads public images
	TokenMinimal           bool          // the token service answers with the token and nothing else
	TokenFormatV1          bool          // anonymous tokens are base64 of v1:<repository>:<nanoseconds>
	TokenPrivateStatus     int           // what the token service answers to an anonymous pull of a private image
	TokenMissingStatus     int           // … of an image that does not exist
	TokenNoAnonFallback    bool          // refused credentials are refused for public images too
	TokenUserIgnored       bool          // the user name beside a token does not matter
	TokenPostStatus        int           // the answer to POST /token, which only OAuth2 clients try
	TokenMultiScope        bool          // a token may be for several repositories
	TokenTTL               time.Duration // how long a token is good
	LateWriteDenial        bool          // a token is issued whatever it is asked for; the first write is refused
	DenialTexts            bool          // a refused write says what the credential lacks, in GHCR's words for its kind
	LowercaseOnly          bool          // a repository's path in mixed case is refused; else it is the same in lower case

	// Uploads and blobs.

	SingularUploadPath  bool          // sessions are under /blobs/upload/, and their Location is relative
	ChunkCap            int64         // the largest chunk in bytes; 0 is no limit
	ChunkCapTrigger     string        // what makes a chunk of a request: "range" (Content-Range), "length", or "either"
	UploadStatus        int           // the answer to a GET of a session: 204, or 404
	UploadDelete        int           // the answer to a DELETE of a session
	UploadUnknownCode   string        // the code for a session that is not known
	CommitDelay         time.Duration // how long the last request of an upload takes
	CommitLossRate      float64       // the share of commits that are lost without a word
	BlobDelete          int           // the answer to a DELETE of a blob
	EmptyBlob           string        // "ghost": the blob of no bytes is there and cannot be read or put; or "normal"
	UnreferencedBlobs   bool          // a blob that no manifest names can be read
	MountSelf           bool          // a mount from the same repository says that the blob is there
	MountAnonymous      bool          // a mount that names no repository is from any that may be read
	MountInvisible      int           // the answer to a mount from a repository that may not be read
	BlobRedirect        bool          // a blob is read from another host, by a signed URL
	CDNRejectsAuth      int           // what that host answers to a request with a credential; 0 is not to mind
	CDNHead             int           // what that host answers to HEAD
	SignedURLTTL        time.Duration // how long a signed URL is good
	OmitAcceptRanges    bool          // ranges work and are not announced
	MaxLayer            int64         // bytes; 0 is no limit
	UploadTimeout       time.Duration // how long a session lives; 0 is for ever
	MissingBlobDetails  string        // a refused manifest names "all" missing blobs, or the "first"
	ManifestConditional bool          // If-None-Match on a GET may be answered with 304

	// Manifests and tags.

	StrictIndexAccept     bool   // an index is not found by clients that do not accept its type by name
	ManifestDelete        int    // the answer to a DELETE of a manifest or tag
	OmitOCISubject        bool   // no OCI-Subject in the answer to a PUT
	Referrers             string // "implemented", "404", "303" to the web host, or "empty"
	CheckIndexChildren    bool   // the entries of an index must be there
	IgnoreIfNoneMatch     bool   // If-None-Match: * does not keep a PUT from moving a tag; else that is a 412
	CountDownloads        bool   // a GET of a manifest counts as a download, a HEAD does not
	MaxManifest           int64  // bytes
	TagOrder              string // "insertion" or "lexical"
	TagPageDefault        int    // tags in a page when none are asked for; 0 is all
	TagPageMax            int    // the most tags in a page; 0 is no limit
	TagLinkN0             bool   // the Link says n=0 where n was not given
	TagLinkMissingAtMax   bool   // a full page of TagPageMax comes without a Link
	Catalog               bool   // /v2/_catalog is served; else 401
	UnmatchedRoute        int    // the answer to a path that is not known: 404, or 303 to the web host
	RegistryReadLimit     int    // reads in a minute; 0 is no limit
	RegistryWriteLimit    int    // writes in a minute; 0 is no limit
	LimitOmitAllowed      bool   // the text of a 429 leaves out the allowance
	LimitRetryAfterHeader bool   // a 429 has a Retry-After header beside its text

	// Packages, and the API for them.

	FirstPushVisibility      Visibility    // of a new package
	RESTNumericLinks         bool          // the URLs in Link name owners by number
	RESTWindow               int           // how far pages of packages reach: per_page times page; 0 is no limit
	RESTUsersForOrgs         bool          // the paths below /users serve organizations too
	RESTCredentialRules      bool          // only classic tokens may do all; else tokens of every kind are alike
	RESTFineGrainedReads     bool          // a fine-grained token reads packages that are linked to a repository
	RESTWorkflowUserVersions int           // what a workflow gets for the list of versions of a user's private package
	RESTMaskForbidden        bool          // what one may not do is not found; else it is forbidden
	RESTLastTagged           bool          // the last version, or the last with a tag, is not deleted
	RESTDownloadLimit        int64         // a public version with more downloads is not deleted; 0 is no limit
	RESTRestoreWindow        time.Duration // how long after its deletion a version or package can be restored
	RESTRestoreConflict      int           // the answer to a restore when the name or digest is there anew
	RESTRestoreTags          bool          // a restored version gets those of its tags back that no other has
	RESTNewIDOnRepush        bool          // a deleted digest that is pushed again is a new version
	RESTSameTimestamp        bool          // what is made within a minute has one created_at
	RESTStaleness            time.Duration // how long lists take to show a change
	RESTConditional          bool          // answers have an ETag, and a 304 costs nothing
	RESTLimits               bool          // the limits below, and X-RateLimit headers
	RESTWorkflowHeaders      bool          // … for a workflow too
	RESTHourly               int           // requests in an hour of a user
	RESTHourlyWorkflow       int           // … of the workflows of a repository
	RESTHourlyAnonymous      int           // … without a login
	RESTDependencyLimit      int           // submissions to the dependency graph in a minute, and SBOMs of it, each besides the rest; 0 is with the rest
	RESTPoints               int           // points in a minute: 5 for a write, 1 for a read; 0 is no limit
	RESTConcurrent           int           // requests at a time; 0 is no limit
	RESTLimitStatus          int           // the answer when a limit is used up: 403 or 429
	RESTRetryAfter           bool          // the answer of the limits of a minute says when to come again

	// What GitHub knows of security.

	VulnerabilityEndpoint  int           // the answer of the endpoint that only the specification has: 404, 403, 410, 501, or 200 to serve it
	SecurityForbidden      int           // what a token gets that may see a repository, and not its security: 403 or 404
	AttestationsAPI        bool          // there is one; GitHub Enterprise Server has none
	AttestationsMissing    int           // the answer for a digest without attestations: 404, or 200 and an empty list
	AttestationsBulkArray  bool          // the bulk list is a list of maps, not a map
	AttestationBundle      string        // a list has a bundle by its "url", "inline", or as "none" of the two
	SecurityOffWording     string        // what a repository needs for code scanning: "Code Security", or as it was called "Advanced Security"
	CodeScanningDelay      time.Duration // how long an upload is processed
	CodeScanningProperties bool          // the SARIF of an analysis has the properties of the run
	AttestationBody        string        // that URL serves "snappy" blocks, "framed" snappy, or "plain" JSON
	OSVPage                int           // records in an answer of OSV
	OSVQualifiers          bool          // OSV finds nothing for a purl with an architecture
}

// UnmarshalJSON sets the switches that an object names, and leaves the others.
// Durations are strings such as "300s", or numbers of nanoseconds. A name that does not
// exist is refused: a switch that is misspelt would look as if it did nothing.
func (q *Quirks) UnmarshalJSON(raw []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	for name, value := range fields {
		field, ok := reflect.TypeFor[Quirks]().FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, name) })
		var text string
		if !ok || field.Type != reflect.TypeFor[time.Duration]() || json.Unmarshal(value, &text) != nil {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fields[name] = json.RawMessage(fmt.Sprint(int64(d)))
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	type plain Quirks // has no method that would be called again
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode((*plain)(q))
}

// GHCR is the profile of ghcr.io.
func GHCR() Quirks {
	return Quirks{
		PingPlaceholderScope: true, PingAcceptsAnyBearer: true, DeniedWithoutChallenge: true, RawBearerStatus: 403,
		DirectBearer: true, DirectBearerWrites: true, AnonymousBearer: true, TokenMinimal: true, TokenFormatV1: true,
		TokenPrivateStatus: 401, TokenMissingStatus: 403, TokenNoAnonFallback: true, TokenUserIgnored: true, TokenMultiScope: true,
		TokenPostStatus: 405, TokenTTL: 5 * time.Minute, LateWriteDenial: true, DenialTexts: true, LowercaseOnly: true,
		SingularUploadPath: true, ChunkCap: 4 << 20, ChunkCapTrigger: "range", UploadStatus: 204, UploadDelete: 405,
		UploadUnknownCode: "BLOB_UPLOAD_UNKNOWN", BlobDelete: 405, EmptyBlob: "ghost", UnreferencedBlobs: true, MountSelf: true,
		MountInvisible: 202, BlobRedirect: true, CDNRejectsAuth: 400, CDNHead: 403, SignedURLTTL: 5 * time.Minute,
		OmitAcceptRanges: true, MaxLayer: 10 << 30, UploadTimeout: 10 * time.Minute, MissingBlobDetails: "all",
		StrictIndexAccept: true, IgnoreIfNoneMatch: true, CountDownloads: true, ManifestDelete: 405, OmitOCISubject: true, Referrers: "404", MaxManifest: 4 << 20,
		TagOrder: "insertion", TagPageDefault: 100, TagPageMax: 1000, TagLinkN0: true, UnmatchedRoute: 303,
		RegistryReadLimit: 44000, RegistryWriteLimit: 2000,
		FirstPushVisibility: Private, RESTNumericLinks: true, RESTWindow: 10000, RESTUsersForOrgs: true, RESTCredentialRules: true,
		RESTWorkflowUserVersions: 403, RESTMaskForbidden: true, RESTLastTagged: true, RESTDownloadLimit: 5000,
		RESTRestoreWindow: 30 * 24 * time.Hour, RESTRestoreConflict: 400, RESTRestoreTags: true, RESTNewIDOnRepush: true, RESTConditional: true,
		RESTLimits: true, RESTWorkflowHeaders: true, RESTHourly: 5000, RESTHourlyWorkflow: 1000, RESTHourlyAnonymous: 60, RESTDependencyLimit: 100, RESTPoints: 900, RESTConcurrent: 100,
		RESTLimitStatus: 403, RESTRetryAfter: true,
		VulnerabilityEndpoint: 404, SecurityForbidden: 403, OSVPage: 1000, OSVQualifiers: true, SecurityOffWording: "Code Security", AttestationsAPI: true, AttestationsMissing: 404, AttestationBundle: "url", AttestationBody: "snappy",
	}
}

// Spec is the profile of a plain registry that follows the OCI distribution
// specification, and passes its conformance suite. Its Packages API has no limits
// and no rules but the documented ones.
func Spec() Quirks {
	return Quirks{
		RawBearerStatus: 401, TokenPrivateStatus: 401, TokenMissingStatus: 401, TokenNoAnonFallback: true, TokenMultiScope: true, TokenUserIgnored: true,
		TokenPostStatus: 405, TokenTTL: 5 * time.Minute, LowercaseOnly: true, ChunkCapTrigger: "range", UploadStatus: 204, UploadDelete: 204,
		UploadUnknownCode: "BLOB_UPLOAD_UNKNOWN", BlobDelete: 202, EmptyBlob: "normal", UnreferencedBlobs: true, MountSelf: true, MountAnonymous: true,
		IgnoreIfNoneMatch: true, CountDownloads: true,
		MountInvisible: 202, CDNHead: 403, SignedURLTTL: 5 * time.Minute, MissingBlobDetails: "all",
		ManifestDelete: 202, Referrers: "implemented", MaxManifest: 4 << 20, TagOrder: "lexical", Catalog: true, UnmatchedRoute: 404,
		FirstPushVisibility: Public, RESTUsersForOrgs: true, RESTWorkflowUserVersions: 200, RESTRestoreWindow: 30 * 24 * time.Hour,
		RESTRestoreConflict: 400, RESTRestoreTags: true, RESTNewIDOnRepush: true, RESTConditional: true,
		RESTWorkflowHeaders: true, RESTHourly: 5000, RESTHourlyWorkflow: 1000, RESTHourlyAnonymous: 60, RESTDependencyLimit: 100, RESTPoints: 900,
		RESTConcurrent: 100, RESTLimitStatus: 403, RESTRetryAfter: true,
		VulnerabilityEndpoint: 404, SecurityForbidden: 403, OSVPage: 1000, OSVQualifiers: true, SecurityOffWording: "Code Security", AttestationsAPI: true, AttestationsMissing: 404, AttestationBundle: "url", AttestationBody: "snappy",
	}
}
