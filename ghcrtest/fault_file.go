package ghcrtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// rule is a [Fault] as a file has it.
type rule struct {
	Name  string    `json:"name"`
	Use   string    `json:"use"` // what [Catalogue] has
	Match ruleMatch `json:"match"`
	Do    *ruleDo   `json:"do"`
	Times *int      `json:"times"`
}

type ruleMatch struct {
	Role        string  `json:"role"`
	Route       string  `json:"route"`
	Method      string  `json:"method"`
	Repo        string  `json:"repo"`
	Ref         string  `json:"ref"`
	Digest      string  `json:"digest"`
	Query       string  `json:"query"`
	Credential  string  `json:"credential"`
	FromByte    int64   `json:"fromByte"`
	Over        int64   `json:"over"`
	If          string  `json:"if"`
	After       int     `json:"after"`
	Every       int     `json:"every"`
	First       int     `json:"first"` // the first so many: times, by another name
	Nth         int     `json:"nth"`   // that one alone: after and times
	Probability float64 `json:"probability"`
	Seed        uint64  `json:"seed"`
}

type ruleDo struct {
	Set            string            `json:"set"`
	Action         Action            `json:"action"`
	Advance        duration          `json:"advance"`
	Stale          duration          `json:"stale"`
	AsQuery        string            `json:"asQuery"`
	Delay          duration          `json:"delay"`
	Jitter         duration          `json:"jitter"`
	BytesPerSecond int64             `json:"bytesPerSecond"`
	Status         int               `json:"status"`
	Header         map[string]values `json:"header"`
	Body           string            `json:"body"`
	IgnoreRange    bool              `json:"ignoreRange"`
	RequestBytes   int64             `json:"requestBytes"`
	Drain          bool              `json:"drain"`
	Break          bool              `json:"break"`
	ResponseBytes  int64             `json:"responseBytes"`
	Reset          bool              `json:"reset"`
	Served         bool              `json:"served"`
	Short          bool              `json:"short"`
	Malformed      bool              `json:"malformed"`
	Stall          duration          `json:"stall"`
	Dribble        duration          `json:"dribble"`
	Corrupt        bool              `json:"corrupt"`
	AcceptBytes    int64             `json:"acceptBytes"`
	Close          bool              `json:"close"`
}

// duration is written as Go writes durations, "1.5s".
type duration time.Duration

func (d *duration) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return fmt.Errorf("duration %s: want one such as \"1.5s\"", raw)
	}
	v, err := time.ParseDuration(text)
	*d = duration(v)
	return err
}

// values are those of one header: a string, a list of them, or null for none.
type values []string

func (v *values) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil && string(raw) != "null" {
		*v = values{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(v))
}

// ParseFaults reads rules from JSON: a list of objects, each a [Fault] with the
// fields' names in camel case, durations as "1.5s", and sizes in bytes.
//
//	[{"name": "slow layers", "match": {"route": "signed-blob", "every": 3},
//	  "do": {"delay": "200ms", "jitter": "50ms", "bytesPerSecond": 65536}, "times": -1},
//	 {"use": "F8b", "match": {"repo": "acme/app"}}]
//
// What chooses requests is in match, which also has first, for the first so many,
// and nth, for that one alone; what happens is in do. With use, a rule is one of
// [Catalogue], and its match narrows that. Fields that do not exist are refused, and
// so are routes, roles and actions: a fault that never happens looks like one that
// was survived.
//
// Errors: [oci.ErrInvalid], which names the rule and the field.
func ParseFaults(raw []byte) ([]Fault, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, oci.Invalid("faults: want a list of rules: %w", err)
	}
	var faults []Fault
	for i, text := range list {
		more, err := parseRule(text)
		if err != nil {
			return nil, oci.Invalid("fault %d: %w", i+1, err)
		}
		faults = append(faults, more...)
	}
	return faults, nil
}

func parseRule(raw []byte) ([]Fault, error) {
	var r rule
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, ofType(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the rule")
	}
	label := strings.TrimSpace(r.Name + " " + r.Use)
	faults, err := r.faults()
	for i := 0; err == nil && i < len(faults); i++ {
		err = faults[i].check()
	}
	if err != nil && label != "" {
		return nil, fmt.Errorf("%q: %w", label, err)
	}
	return faults, err
}

// ofType says which field has a value of the wrong kind, without the names that Go has
// for the kinds.
func ofType(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	return fmt.Errorf("%s: it can't be %s", cmp.Or(wrong.Field, "the rule"), wrong.Value)
}

func (r rule) faults() ([]Fault, error) {
	m := r.Match
	times, err := m.order(r.Times)
	if err != nil {
		return nil, err
	}
	if r.Use == "" {
		f := Fault{Name: r.Name, Times: times}
		m.apply(&f)
		if r.Do != nil {
			r.Do.apply(&f)
		}
		return []Fault{f}, nil
	}
	e, ok := entry(r.Use)
	switch {
	case !ok:
		return nil, fmt.Errorf("use: there is no fault %q", r.Use)
	case len(e.Faults) == 0:
		return nil, fmt.Errorf("use: %s is one of the client's, not of the server's", r.Use)
	case r.Do != nil:
		return nil, fmt.Errorf("do: what happens is what %s says", r.Use)
	case m.If != "":
		return nil, fmt.Errorf("match.if: the states are those of %s", r.Use)
	}
	faults := slices.Clone(e.Faults)
	for i := range faults {
		if r.Name != "" {
			faults[i].Name = r.Name
		}
		if times != 0 {
			faults[i].Times = times
		}
		m.apply(&faults[i])
	}
	return faults, nil
}

// order turns first and nth into after and times.
func (m *ruleMatch) order(times *int) (int, error) {
	switch {
	case m.First < 0 || m.Nth < 0 || m.After < 0 || m.Every < 0:
		return 0, fmt.Errorf("match: after, every, first and nth count from 0 up")
	case m.First > 0 && (m.Nth > 0 || times != nil):
		return 0, fmt.Errorf("match.first: says the same as times, and not what nth says")
	case m.Nth > 0 && (m.After > 0 || m.Every > 0 || times != nil):
		return 0, fmt.Errorf("match.nth: is one request, so there is no after, every or times")
	case m.First > 0:
		return m.First, nil
	case m.Nth > 0:
		m.After = m.Nth - 1
		return 1, nil
	case times == nil:
		return 0, nil
	case *times == 0:
		return 0, fmt.Errorf("times: 0 would be never; -1 is always")
	}
	return *times, nil
}

func (m ruleMatch) apply(f *Fault) {
	narrow(&f.Role, m.Role)
	narrow(&f.Route, m.Route)
	narrow(&f.Method, m.Method)
	narrow(&f.Repo, m.Repo)
	narrow(&f.Ref, m.Ref)
	narrow(&f.Digest, m.Digest)
	narrow(&f.Query, m.Query)
	narrow(&f.Credential, m.Credential)
	narrow(&f.FromByte, m.FromByte)
	narrow(&f.Over, m.Over)
	narrow(&f.If, m.If)
	narrow(&f.After, m.After)
	narrow(&f.Every, m.Every)
	narrow(&f.Probability, m.Probability)
	narrow(&f.Seed, m.Seed)
}

// narrow sets what a rule says, and leaves what it does not.
func narrow[T comparable](field *T, v T) {
	var none T
	if v != none {
		*field = v
	}
}

func (d *ruleDo) apply(f *Fault) {
	f.Set, f.Action, f.AsQuery, f.Body, f.Status = d.Set, d.Action, d.AsQuery, d.Body, d.Status
	f.Advance, f.Stale, f.Delay, f.Jitter = time.Duration(d.Advance), time.Duration(d.Stale), time.Duration(d.Delay), time.Duration(d.Jitter)
	f.Stall, f.Dribble, f.BytesPerSecond = time.Duration(d.Stall), time.Duration(d.Dribble), d.BytesPerSecond
	f.RequestBytes, f.ResponseBytes, f.AcceptBytes = d.RequestBytes, d.ResponseBytes, d.AcceptBytes
	f.IgnoreRange, f.Drain, f.Break, f.Reset, f.Served = d.IgnoreRange, d.Drain, d.Break, d.Reset, d.Served
	f.Short, f.Malformed, f.Corrupt, f.Close = d.Short, d.Malformed, d.Corrupt, d.Close
	for name, list := range d.Header {
		if f.Header == nil {
			f.Header = http.Header{}
		}
		f.Header[textproto.CanonicalMIMEHeaderKey(name)] = list
	}
}

// allRoles and allRoutes are what a fault can be for.
var (
	allRoles  = []string{RoleRegistry, RoleToken, RoleCDN, RoleAPI, RoleWeb, RoleOSV}
	allRoutes = []string{
		RoutePing, RouteManifest, RouteBlob, RouteUploadStart, RouteUploadChunk, RouteUploadCommit, RouteUploadStatus, RouteUploadCancel,
		RouteTags, RouteReferrers, RouteCatalog, RouteToken, RouteSigned, RouteUnknown, RoutePackages, RoutePackage, RoutePackageRestore,
		RouteVersions, RouteVersion, RouteVersionRestore, RouteConflicts, RouteOwner, RouteRateLimit,
		RouteRepository, RouteAttestations, RouteAttestationsBulk, RouteAttestationsSources, RouteAttestationUpload, RouteAttestationDelete, RouteBundle,
		RouteCodeAlerts, RouteCodeAlert, RouteCodeInstances, RouteAnalyses, RouteAnalysis, RouteSARIFUpload, RouteSARIFStatus,
		RouteDependabotAlerts, RouteDependabotAlert, RouteDependencySnapshot, RouteDependencySBOM, RouteVulnerabilities,
		RouteAdvisories, RouteAdvisory, RouteOSVQuery, RouteOSVBatch, RouteOSVRecord,
	}
	allCredentials = []string{"none", "some", "basic", "bearer", "token"}
	allMethods     = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
)

// check refuses a fault that could not happen as it says. It names the field as a
// file has it.
func (f *Fault) check() error {
	for _, set := range []struct {
		field, value string
		known        []string
	}{
		{"match.role", f.Role, allRoles}, {"match.route", f.Route, allRoutes}, {"match.method", f.Method, allMethods},
		{"match.credential", f.Credential, allCredentials}, {"do.action", string(f.Action), actionNames()},
	} {
		if set.value != "" && !slices.Contains(set.known, set.value) {
			return fmt.Errorf("%s: there is no %q: want one of %s", set.field, set.value, strings.Join(set.known, ", "))
		}
	}
	for field, n := range map[string]int64{
		"match.fromByte": f.FromByte, "match.over": f.Over, "do.delay": int64(f.Delay), "do.jitter": int64(f.Jitter), "do.stall": int64(f.Stall),
		"do.stale": int64(f.Stale), "do.dribble": int64(f.Dribble), "do.bytesPerSecond": f.BytesPerSecond,
		"do.requestBytes": f.RequestBytes, "do.acceptBytes": f.AcceptBytes,
	} {
		if n < 0 {
			return fmt.Errorf("%s: is negative", field)
		}
	}
	for field, query := range map[string]string{"match.query": f.Query, "do.asQuery": f.AsQuery} {
		if _, err := url.ParseQuery(query); err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
	}
	for name, list := range f.Header {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !tokenRune(r) }) {
			return fmt.Errorf("do.header: %q is no name of a header", name)
		}
		for _, v := range list {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fmt.Errorf("do.header: %s has a control character", name)
			}
		}
	}
	ends := 0
	for _, is := range []bool{f.Short, f.Malformed, f.Break, f.Corrupt, f.RequestBytes > 0, f.AcceptBytes > 0} {
		if is {
			ends++
		}
	}
	switch {
	case f.Probability < 0 || f.Probability > 1:
		return fmt.Errorf("match.probability: %g is not between 0 and 1", f.Probability)
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("do.status: %d is not between 200 and 599", f.Status)
	case f.Status != 0 && f.Body == "" && f.inBody() && f.RequestBytes == 0 && f.AcceptBytes == 0 && f.Dribble == 0:
		return fmt.Errorf("do.body: there is none in which something could happen")
	case f.Status == 0 && f.Body != "":
		return fmt.Errorf("do.body: without a status nothing is answered")
	case ends > 1:
		return fmt.Errorf("do: short, malformed, break, corrupt, requestBytes and acceptBytes exclude one another")
	case f.ResponseBytes != 0 && !f.Short && !f.Malformed && !f.Break && !f.Corrupt && f.Stall == 0:
		return fmt.Errorf("do.responseBytes: nothing happens there")
	case f.Reset && !f.Break && !f.Served && f.RequestBytes == 0:
		return fmt.Errorf("do.reset: nothing breaks")
	case f.Drain && f.Status == 0 && !f.Break:
		return fmt.Errorf("do.drain: neither status nor break follows")
	case (f.If != "" || f.Set != "") && f.Name == "":
		return fmt.Errorf("name: a state is that of the rules of one name")
	}
	return nil
}

func actionNames() []string {
	var names []string
	for a := range maps.Keys(actions) {
		names = append(names, string(a))
	}
	slices.Sort(names)
	return names
}

// tokenRune tells what may stand in the name of a header.
func tokenRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
