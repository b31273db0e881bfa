package ghcrtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const restDocs = "https://docs.github.com/rest"

// documentation is where GitHub describes the operation.
func (c *call) documentation() string {
	if c.doc == "" {
		return restDocs
	}
	if strings.Contains(c.doc, "/") {
		return restDocs + "/" + c.doc
	}
	form := map[string]string{"orgs": "an-organization", "organizations": "an-organization", "users": "a-user", "user": "the-authenticated-user"}[c.form]
	if strings.HasSuffix(c.doc, "-by") {
		return restDocs + "/packages/packages#" + c.doc + "-" + form
	}
	return restDocs + "/packages/packages#" + c.doc + "-for-" + form
}

func (x *exchange) refuseAPI(status int, message string) {
	x.refuseWith(status, message, x.api.documentation())
}

func (x *exchange) refuseWith(status int, message, documentation string) {
	x.answerJSON(status, refusal{message, documentation, strconv.Itoa(status)})
}

// refusal is an error as the API shows it. The status is a string.
type refusal struct {
	Message          string `json:"message"`
	DocumentationURL string `json:"documentation_url"`
	Status           string `json:"status"`
}

func (x *exchange) noRoute() { x.refuseAPI(http.StatusNotFound, "Not Found") }

func (x *exchange) packageNotFound() { x.refuseAPI(http.StatusNotFound, "Package not found.") }

func (x *exchange) versionNotFound() { x.refuseAPI(http.StatusNotFound, "Package version not found.") }

func (x *exchange) invalidArgument() { x.refuseAPI(http.StatusBadRequest, "Invalid argument.") }

func (x *exchange) internalAPI(err error) {
	x.refuseAPI(http.StatusInternalServerError, "Server Error: "+err.Error())
}

// answerJSON answers the API. What did not change since the client asked last is not
// sent again.
func (x *exchange) answerJSON(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is plain data
	}
	h := x.w.Header()
	if status == http.StatusOK && x.server.quirks.RESTConditional {
		// The links are part of what a page says.
		sum := sha256.Sum256(append([]byte(h.Get("Link")+"\n"), body...))
		h.Set("ETag", `W/"`+hex.EncodeToString(sum[:])+`"`)
		h.Set("Cache-Control", "private, max-age=60, s-maxage=60")
		if etagMatches(x.r.Header.Values("If-None-Match"), h.Get("ETag")) {
			x.refund()
			x.w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.w.Write(body)
	}
}

// etagMatches compares weakly, as conditional reads do.
func etagMatches(headers []string, etag string) bool {
	for _, h := range headers {
		for one := range strings.SplitSeq(h, ",") {
			one = strings.TrimSpace(one)
			if one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
	}
	return false
}

// page is which part of a list is asked for.
type page struct{ number, size int }

const (
	defaultPage = 30
	maxPage     = 100
	farPage     = 1 << 24 // beyond which it does not matter
)

// page reads what part is asked for. What makes no sense is as if it were not there.
func (x *exchange) page() page {
	query := x.r.URL.Query()
	p := page{1, defaultPage}
	if n, err := strconv.Atoi(query.Get("page")); err == nil && n > 0 {
		p.number = min(n, farPage)
	}
	if n, err := strconv.Atoi(query.Get("per_page")); err == nil && n > 0 {
		p.size = min(n, maxPage)
	}
	return p
}

func (p page) first() int { return (p.number - 1) * p.size }

// links names the other pages of a list.
func (x *exchange) links(p page, total int) {
	last := max((total+p.size-1)/p.size, 1)
	var list []string
	add := func(rel string, number int) {
		query := x.r.URL.Query()
		query.Set("page", strconv.Itoa(number))
		list = append(list, "<"+x.api.base+x.listPath()+"?"+query.Encode()+`>; rel="`+rel+`"`)
	}
	if p.number > 1 {
		add("prev", min(p.number-1, last))
	}
	if p.number < last {
		add("next", p.number+1)
		add("last", last)
	}
	if p.number > 1 {
		add("first", 1)
	}
	if len(list) > 0 {
		x.w.Header().Set("Link", strings.Join(list, ", "))
	}
}

// listPath is the path of a list, where GitHub names the owner by number.
func (x *exchange) listPath() string {
	if !x.server.quirks.RESTNumericLinks || x.api.form == "" {
		return x.api.path
	}
	if x.api.form == "repos" {
		return "/repositories/" + strconv.FormatInt(number(x.api.repository), 10) + "/" + x.api.below
	}
	owner := "/user/"
	if x.api.owner.Kind == kindOrganization {
		owner = "/organizations/"
	}
	return owner + strconv.FormatInt(x.api.owner.ID, 10) + "/" + x.api.below
}

// ownerPath is the path of the owner in URLs of answers. Those of /user name the
// login.
func (x *exchange) ownerPath() string {
	if x.api.owner.Kind == kindOrganization {
		return "/orgs/" + url.PathEscape(x.api.owner.Login)
	}
	return "/users/" + url.PathEscape(x.api.owner.Login)
}
