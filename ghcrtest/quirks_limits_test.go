package ghcrtest_test

import (
	"strconv"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

var limitQuirks = map[string]quirkTest{
	"RESTConditional": {
		set: func(q *ghcrtest.Quirks) { q.RESTConditional = false },
		ghcr: func(w *wire) {
			w.tagged("v1")
			first := w.api("ghp_owner", "GET", versionsPath)
			etag := first.header.Get("ETag")
			again := w.api("ghp_owner", "GET", versionsPath, "If-None-Match", etag)
			w.want(again, 304)
			if again.body != "" || again.header.Get("X-RateLimit-Used") != first.header.Get("X-RateLimit-Used") {
				w.t.Errorf("it has %q and cost something: %v", again.body, again.header)
			}
			w.add("v2", "linux/arm64")
			w.want(w.api("ghp_owner", "GET", versionsPath, "If-None-Match", etag), 200, "v2")
			// Without a login it is not free.
			first = w.api("", "GET", "/users/acme")
			again = w.api("", "GET", "/users/acme", "If-None-Match", first.header.Get("ETag"))
			w.want(again, 304)
			if first.header.Get("X-RateLimit-Used") != "1" || again.header.Get("X-RateLimit-Used") != "2" {
				w.t.Errorf("anonymous: %v, then %v", first.header, again.header)
			}
		},
		other: func(w *wire) {
			w.tagged("v1")
			a := w.api("ghp_owner", "GET", versionsPath, "If-None-Match", "*")
			w.want(a, 200)
			if a.header.Get("ETag") != "" {
				w.t.Error("it has an ETag")
			}
		},
	},
	"RESTLimits": {
		set: func(q *ghcrtest.Quirks) { q.RESTLimits = false },
		ghcr: func(w *wire) {
			w.image()
			a := w.api("ghp_owner", "GET", packagePath)
			for name, want := range map[string]string{
				"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4999", "X-RateLimit-Used": "1",
				"X-RateLimit-Resource": "core", "X-RateLimit-Reset": strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10),
			} {
				if got := a.header.Get(name); got != want {
					w.t.Errorf("%s is %q, want %s", name, got, want)
				}
			}
			w.want(w.api("ghp_owner", "GET", "/rate_limit"), 200, `"core":{"limit":5000,"remaining":4999`, `"rate":`)
		},
		other: func(w *wire) {
			a := w.api("ghp_owner", "GET", packagesPath)
			if w.want(a, 200); a.header.Get("X-RateLimit-Limit") != "" {
				w.t.Errorf("it has %v", a.header)
			}
			w.want(w.api("ghp_owner", "GET", "/rate_limit"), 404, "Rate limiting is not enabled.")
		},
	},
	"RESTWorkflowHeaders": {
		set:  func(q *ghcrtest.Quirks) { q.RESTWorkflowHeaders = false },
		ghcr: func(w *wire) { w.wantLimit("ghs_ci", "1000") },
		other: func(w *wire) {
			w.wantLimit("ghs_ci", "")
			w.wantLimit("ghp_owner", "5000")
		},
	},
	"RESTHourly": {
		set: func(q *ghcrtest.Quirks) { q.RESTHourly = 3 },
		ghcr: func(w *wire) {
			w.wantLimit("ghp_owner", "5000")
			w.wantLimit("github_pat_fine", "5000")
		},
		other: func(w *wire) {
			began := time.Now()
			for range 3 {
				w.want(w.api("ghp_owner", "GET", packagesPath), 200)
				time.Sleep(time.Minute)
			}
			a := w.api("ghp_owner", "GET", packagesPath)
			w.want(a, 403, "API rate limit exceeded")
			if a.header.Get("X-RateLimit-Remaining") != "0" || a.header.Get("X-RateLimit-Used") != "3" {
				w.t.Errorf("got %v", a.header)
			}
			w.want(w.api("ghp_owner", "GET", "/rate_limit"), 200, `"remaining":0`) // it is free
			w.want(w.api("ghp_reader", "GET", packagesPath), 200)                  // others have their own
			reset, _ := strconv.ParseInt(a.header.Get("X-RateLimit-Reset"), 10, 64)
			if want := began.Add(time.Hour); time.Unix(reset, 0).Compare(want) != 0 {
				w.t.Errorf("the hour is over at %v, want %v", time.Unix(reset, 0), want)
			}
			time.Sleep(time.Until(time.Unix(reset, 0)))
			w.want(w.api("ghp_owner", "GET", packagesPath), 200)
		},
	},
	"RESTHourlyWorkflow": {
		set:   func(q *ghcrtest.Quirks) { q.RESTHourlyWorkflow = 15000 },
		ghcr:  func(w *wire) { w.wantLimit("ghs_ci", "1000") },
		other: func(w *wire) { w.wantLimit("ghs_ci", "15000") },
	},
	"RESTHourlyAnonymous": {
		set: func(q *ghcrtest.Quirks) { q.RESTHourlyAnonymous = 1 },
		ghcr: func(w *wire) {
			w.wantLimit("", "60")
			w.wantLimit("ghp_revoked", "60")
		},
		other: func(w *wire) {
			w.want(w.api("", "GET", "/users/acme"), 200)
			w.want(w.api("", "GET", "/users/acme"), 403, "API rate limit exceeded")
		},
	},
	"RESTPoints": {
		set: func(q *ghcrtest.Quirks) { q.RESTPoints = 10 },
		ghcr: func(w *wire) {
			for range 180 {
				w.want(w.api("ghp_owner", "DELETE", packagePath), 404)
			}
			w.want(w.api("ghp_owner", "GET", packagesPath), 403, "secondary rate limit", "#about-secondary-rate-limits")
		},
		other: func(w *wire) {
			w.want(w.api("ghp_owner", "GET", packagesPath), 200)
			time.Sleep(20 * time.Second)
			w.want(w.api("ghp_owner", "DELETE", packagePath), 404)
			a := w.api("ghp_owner", "DELETE", packagePath)
			w.want(a, 403, "secondary rate limit")
			if a.header.Get("Retry-After") != "40" || a.header.Get("X-RateLimit-Used") != "2" {
				w.t.Errorf("got %v", a.header)
			}
			for range 4 {
				w.want(w.api("ghp_owner", "GET", packagesPath), 200)
			}
			w.want(w.api("ghp_owner", "GET", packagesPath), 403)
			time.Sleep(40 * time.Second) // the first read is a minute old
			w.want(w.api("ghp_owner", "GET", packagesPath), 200)
			w.want(w.api("ghp_owner", "GET", packagesPath), 403)
		},
	},
	"RESTConcurrent": {
		set: func(q *ghcrtest.Quirks) { q.RESTConcurrent = 1 },
		ghcr: func(w *wire) {
			w.slow(101)
			w.want(w.api("ghp_owner", "GET", packagesPath), 403, "secondary rate limit")
			w.want(w.api("ghp_reader", "GET", packagesPath), 200)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			w.want(w.api("ghp_owner", "GET", packagesPath), 200)
		},
		other: func(w *wire) {
			w.slow(1)
			a := w.api("ghp_owner", "GET", packagesPath)
			w.want(a, 403, "secondary rate limit")
			if a.header.Get("Retry-After") != "60" {
				w.t.Errorf("got %v", a.header)
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
		},
	},
	"RESTLimitStatus": {
		set:  func(q *ghcrtest.Quirks) { q.RESTLimitStatus, q.RESTHourly = 429, 1 },
		ghcr: func(w *wire) { w.wantLimit("ghp_owner", "5000") },
		other: func(w *wire) {
			w.want(w.api("ghp_owner", "GET", packagesPath), 200)
			w.want(w.api("ghp_owner", "GET", packagesPath), 429, "API rate limit exceeded", `"status":"429"`)
		},
	},
	"RESTRetryAfter": {
		set: func(q *ghcrtest.Quirks) { q.RESTRetryAfter, q.RESTPoints = false, 1 },
		ghcr: func(w *wire) {
			for range 180 {
				w.api("ghp_owner", "DELETE", packagePath)
			}
			if a := w.api("ghp_owner", "DELETE", packagePath); a.header.Get("Retry-After") != "60" {
				w.t.Errorf("got %d %v", a.status, a.header)
			}
		},
		other: func(w *wire) {
			w.api("ghp_owner", "GET", packagesPath)
			a := w.api("ghp_owner", "GET", packagesPath)
			if w.want(a, 403, "secondary rate limit"); a.header.Get("Retry-After") != "" {
				w.t.Errorf("got %v", a.header)
			}
		},
	},
}
