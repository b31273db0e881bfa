package transport

import (
	"fmt"
	"testing"
	"time"
)

func TestParseChallenges(t *testing.T) {
	for header, want := range map[string]string{
		`Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull,push"`: `[{bearer map[realm:https://ghcr.io/token scope:repository:a/b:pull,push service:ghcr.io]}]`,
		`Basic realm="x", Bearer realm="y"`:   `[{basic map[realm:x]} {bearer map[realm:y]}]`,
		`Negotiate, Basic realm=x`:            `[{negotiate map[]} {basic map[realm:x]}]`,
		`Bearer realm = "a\"b" , service = c`: `[{bearer map[realm:a"b service:c]}]`,
		`Bearer`:                              `[{bearer map[]}]`,
		`Bearer realm="unclosed`:              `[{bearer map[]}]`,
		``:                                    `[]`,
		`"`:                                   `[]`,
	} {
		if got := fmt.Sprint(parseChallenges([]string{header})); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", header, got, want)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://ghcr.io/token",service="ghcr.io", Basic realm=x`)
	f.Fuzz(func(_ *testing.T, s string) { parseChallenges([]string{s}) })
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("17", "retry-after: 880.092µs, allowed: 44000/minute")
	f.Fuzz(func(t *testing.T, header, message string) {
		if d := retryAfter(header, message, time.Unix(0, 0)); d < 0 {
			t.Fatalf("%q %q gave %s", header, message, d)
		}
	})
}
