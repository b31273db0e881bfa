package ghcrtest

import (
	"net/http"
	"time"
)

// uploadFaults are those of what is written to the registry.
func uploadFaults() []Entry {
	commit := Fault{Route: RouteUploadCommit}
	with := func(f Fault, change func(*Fault)) Fault { change(&f); return f }
	put := Fault{Route: RouteManifest, Method: http.MethodPut}
	const (
		mustLook    = "ask for the blob first: what is there is done"
		mustGoOn    = "go on from the byte that was taken in, or begin anew"
		mustResend  = "open the content again and send it, or say clearly that it cannot"
		tooLarge    = "the request body is too large and exceeds the maximum permissible limit of 4.00MiB"
		unknownBlob = "blob unknown to registry"
	)
	jib, ocx, burned := []string{"GoogleContainerTools/jib#4301"}, []string{"ocx-sh/ocx#237"}, []string{"docker/build-push-action#626"}
	again := []string{"infobloxopen/konk#626", "docker/build-push-action#38"}
	return []Entry{
		{"F4a", "a commit takes 11 seconds and is not answered; the blob is there, and the session gone", mustLook, jib,
			[]Fault{{Route: RouteUploadCommit, Served: true, Stall: 11 * time.Second}}},
		{"F4a.late", "a commit is stored at once and answered after 20 minutes", mustLook, jib,
			[]Fault{{Route: RouteUploadCommit, Served: true, Stall: 20 * time.Minute}}},
		{"F4b", "a commit is lost with its session, and the next one refused with BLOB_UNKNOWN", "begin a new session", jib, []Fault{
			{Route: RouteUploadCommit, Drain: true, Delay: 11 * time.Second, Action: ActionDropSessions, Break: true, Set: "lost"},
			registryError(with(commit, func(f *Fault) { f.If, f.Drain = "lost", true }), 404, "BLOB_UNKNOWN", unknownBlob),
		}},
		{"F5", "the registry has lost the blobs of a manifest, though it said that it has them", "send again those that the refusal names", again,
			[]Fault{with(put, func(f *Fault) { f.Action = ActionLoseBlobs })}},
		{"F5.present", "a manifest is refused for blobs that are there", "look again, send again, and stop at a limit", again,
			[]Fault{registryError(put, 400, "MANIFEST_BLOB_UNKNOWN", unknownBlob)}},
		{"F6a", "416 for a chunk of more than 4 MiB", "learn the limit, and send smaller ones", ocx,
			[]Fault{registryError(Fault{Route: RouteUploadChunk, Over: 4 << 20, Times: always}, 416, "REQUESTED_RANGE_NOT_SATISFIABLE", tooLarge)}},
		{"F6b", "less of a chunk is taken in than was sent", mustGoOn, ocx, []Fault{{Route: RouteUploadChunk, AcceptBytes: 1000}}},
		{"F6b.order", "416 for a chunk, as if it were out of order", mustGoOn, ocx,
			[]Fault{registryError(Fault{Route: RouteUploadChunk}, 416, "BLOB_UPLOAD_INVALID", "the chunk does not follow what was uploaded")}},
		{"F6c", "the session is lost at a chunk", mustGoOn, ocx, []Fault{{Route: RouteUploadChunk, After: 1, Action: ActionDropSessions}}},
		{"F6c.commit", "the session is lost at the last request", mustGoOn, ocx, []Fault{{Route: RouteUploadCommit, Action: ActionDropSessions}}},
		{"F7", "401 after all of the body was read", mustResend, burned,
			[]Fault{registryError(with(commit, func(f *Fault) {
				f.Drain, f.Header = true, header("WWW-Authenticate", `Bearer realm="{base}/token",service="ghcr.io",scope="repository:{repo}:pull,push"`)
			}), 401, "UNAUTHORIZED", "authentication required")}},
		{"F7.redirect", "307 after all of the body was read", mustResend, burned,
			[]Fault{with(commit, func(f *Fault) { f.Drain, f.Status, f.Header = true, 307, header("Location", "{url}") })}},
		{"F7.reset", "reset after all of the body was read", mustResend, burned,
			[]Fault{with(commit, func(f *Fault) { f.Drain, f.Break, f.Reset = true, true, true })}},
		{"F17", "the tag moves between the read and the write", "read again after the write", []string{"sigstore/cosign#4641"},
			[]Fault{with(put, func(f *Fault) { f.Action = ActionMoveTag })}},
		{"F17.lost", "somebody else rewrites the referrers' tag after it was written, a PUT after that of the manifest", "read again, and write again what was lost", []string{"sigstore/cosign#4641"}, []Fault{
			with(put, func(f *Fault) { f.After, f.Set = 1, "written" }),
			{Route: RouteManifest, Method: http.MethodGet, If: "written", Action: ActionMoveTag},
		}},
	}
}

// readFaults are those of connections and of bytes.
func readFaults() []Entry {
	blob := func(f Fault) []Fault {
		signed, whole := f, f
		signed.Route, whole.Route, whole.Method = RouteSigned, RouteBlob, http.MethodGet
		return []Fault{signed, whole}
	}
	manifest := func(f Fault) []Fault {
		f.Route, f.Method = RouteManifest, http.MethodGet
		return []Fault{f}
	}
	const (
		mustRetry  = "try again"
		mustResume = "go on from the byte that was reached, and check the digest"
		mustRefuse = "a typed error, and nothing of it under a final name"
		mustMove   = "end it for want of bytes, not for the time it takes in all, and go on"
	)
	slow := []string{"dcaravel/broken-image-reg", "Shopify/toxiproxy"}
	return []Entry{
		{"F8a", "reset before the answer", mustRetry, nil, reads(Fault{Break: true, Reset: true})},
		{"F8a.empty", "the connection ends before the answer", mustRetry, nil, reads(Fault{Break: true})},
		{"F8b", "reset in the middle of the body", mustResume, nil, reads(Fault{Break: true, Reset: true, ResponseBytes: early})},
		{"F8b.last", "reset before the last byte", mustResume, nil, reads(Fault{Break: true, Reset: true, ResponseBytes: -1})},
		{"F8b.cut", "the connection ends in the middle of a body whose length was stated", mustResume, nil, reads(Fault{Break: true, ResponseBytes: early})},
		{"F8b.chunk", "a chunk whose length is no number", mustResume, nil, reads(Fault{Malformed: true, ResponseBytes: early})},
		{"F8c", "a body without a length ends early, and cleanly", "never take a short body for a whole one", nil, reads(Fault{Short: true, ResponseBytes: early})},
		{"F9a", "a bit of a blob is wrong", mustRefuse, nil, blob(Fault{Corrupt: true, ResponseBytes: early})},
		{"F9a.manifest", "a bit of a manifest is wrong", mustRefuse, nil, manifest(Fault{Corrupt: true, ResponseBytes: -early})},
		{"F9a.header", "Docker-Content-Digest is that of something else", mustRefuse, nil,
			manifest(Fault{Header: header("Docker-Content-Digest", emptyDigest.String())})},
		{"F9b", "Content-Length is less than what follows", mustRefuse, nil, []Fault{{Route: RouteSigned, Header: header("Content-Length", "7")}}},
		{"F9b.long", "Content-Length is more than what follows", mustRefuse, nil, []Fault{{Route: RouteSigned, Header: header("Content-Length", "999999999")}}},
		{"F9b.type", "a manifest with the media type of another kind", mustRefuse, nil,
			manifest(Fault{Header: header("Content-Type", "application/vnd.oci.image.index.v1+json")})},
		{"F9c", "the tag moves after it was looked up", "one image whole, or a digest error; no mixture", nil, manifest(Fault{Action: ActionMoveTag})},
		{"F10", "nothing comes for an hour", mustMove, slow, []Fault{{Route: RouteSigned, Delay: oneHour}}},
		{"F10.slow", "some hundred bytes a second", "let it take its time, as long as bytes come, and show that they do", slow, blob(Fault{BytesPerSecond: 500, Times: always})},
		{"F10.stall", "nothing more comes for an hour after the first bytes", mustMove, slow, blob(Fault{Stall: oneHour, ResponseBytes: early})},
		{"F10.header", "the header of the answer comes a byte a second", mustMove, slow, []Fault{{Route: RouteSigned, Dribble: time.Second}}},
	}
}
