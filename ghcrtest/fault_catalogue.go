package ghcrtest

import (
	"fmt"
	"net/http"
	"slices"
)

// Entry is a fault that is known of GHCR, or of the way to it, ready to be injected.
type Entry struct {
	// ID is its name, such as F8b or F8b.last: F1 to F18 are the kinds, letters after them the cases, and what
	// follows a point is a variant.
	ID string `json:"id"`
	// Title says what goes wrong, and Must what a client has to make of it.
	Title string `json:"title"`
	Must  string `json:"must"`
	// Evidence is where it was seen: an issue, "owner/repository#number", or a page. It is
	// empty for what happens to everybody.
	Evidence []string `json:"evidence,omitempty"`
	// Faults make it happen. There are none where it happens in the client.
	Faults []Fault `json:"-"`
}

// Catalogue lists the faults that are ready to be injected: all that docs/emulator.md
// describes.
func Catalogue() []Entry {
	list := slices.Concat(limitFaults(), uploadFaults(), readFaults(), loginFaults(), redirectFaults(), listFaults(), packageFaults(), clientFaults())
	for i := range list {
		for k := range list[i].Faults {
			list[i].Faults[k].Name = list[i].ID
		}
	}
	return list
}

// NamedFault returns the faults of an entry of [Catalogue], to be given to
// [Server.Inject], or to be changed before. It panics if there is no such entry, or
// if it has none.
func NamedFault(id string) []Fault {
	e, ok := entry(id)
	if !ok || len(e.Faults) == 0 {
		panic(fmt.Sprintf("ghcrtest: the catalogue has no fault %q that a server could make happen", id))
	}
	return e.Faults
}

func entry(id string) (Entry, bool) {
	list := Catalogue()
	i := slices.IndexFunc(list, func(e Entry) bool { return e.ID == id })
	if i < 0 {
		return Entry{}, false
	}
	return list[i], true
}

// always is for [Fault.Times].
const always = -1

// Where in bodies: within the smallest that there are.
const early = 10

// clientFaults happen on the client's side. What of them a server can do is move its
// clock, and stand still until the client gives up.
func clientFaults() []Entry {
	return []Entry{
		{ID: "F18", Title: "the client's disk is full, or broken (ENOSPC, EIO)", Must: "leave no temporary file behind, and state from which the next run goes on"},
		{ID: "F18.hold", Title: "an answer does not come, so that the client can give up meanwhile", Must: "return at once, leave no temporary file and nothing half done under a final name",
			Faults: []Fault{{Delay: oneHour}}},
		{ID: "F18.ahead", Title: "the server's clock jumps ahead by a quarter of an hour", Must: "not go by a comparison of the two clocks: renew what expired",
			Faults: []Fault{{Role: RoleRegistry, Advance: 15 * oneMinute}}},
		{ID: "F18.behind", Title: "the server's clock falls back by a quarter of an hour", Must: "not wait for the difference",
			Faults: []Fault{{Role: RoleRegistry, Advance: -15 * oneMinute}}},
	}
}

// header makes a header of names and values in turn.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// registryError is the body of a refusal of the registry, with its header.
func registryError(f Fault, status int, code, message string) Fault {
	f.Status, f.Body = status, string(marshal(map[string]any{"errors": []wireError{{Code: code, Message: message}}}))
	if f.Header == nil {
		f.Header = http.Header{}
	}
	f.Header.Set("Content-Type", "application/json")
	return f
}

// apiError is the body of a refusal of the Packages API.
func apiError(f Fault, status int, message string) Fault {
	f.Status, f.Body = status, string(marshal(refusal{message, restDocs, fmt.Sprint(status)}))
	if f.Header == nil {
		f.Header = http.Header{}
	}
	f.Header.Set("Content-Type", "application/json; charset=utf-8")
	return f
}

// page is an answer of GitHub's web pages.
func webPage(f Fault, status int) Fault {
	f.Status, f.Header, f.Body = status, header("Content-Type", "text/html; charset=utf-8"), "<!DOCTYPE html><title>GitHub</title>"
	return f
}

// reads is one fault for each kind of thing that is read: blobs, tags, and the
// Packages API.
func reads(f Fault) []Fault {
	blob, whole, tags, versions := f, f, f, f
	blob.Route, tags.Route, versions.Route = RouteSigned, RouteTags, RouteVersions
	// Where blobs are not redirected, their bytes come from here.
	whole.Route, whole.Method = RouteBlob, http.MethodGet
	if !f.inBody() {
		return []Fault{blob, tags, versions}
	}
	return []Fault{blob, whole, tags, versions}
}
