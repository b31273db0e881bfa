package registry

import "testing"

func TestParseNextLink(t *testing.T) {
	for header, want := range map[string]string{
		`</v2/a/tags/list?last=x&n=0>; rel="next"`: "/v2/a/tags/list?last=x&n=0",
		`</a>; rel=next`:                           "/a",
		`</a>; rel="prev", </b>; rel="next"`:       "/b",
		`</a>;title="x;y";rel="NEXT"`:              "/a",
		`<https://h/b?c=d>; foo="bar"; rel="next"`: "https://h/b?c=d",
		`</a>; rel="last"`:                         "",
		``:                                         "",
		`</a`:                                      "",
	} {
		if got, ok := parseNextLink(header); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v", header, got, ok)
		}
	}
}

func TestParseAcknowledged(t *testing.T) {
	for header, want := range map[string]int64{"0-0": 0, "0-9": 10, "bytes=0-9": 10, "": -1, "5-9": -1, "0-": -1, "0--1": 0, "x": -1} {
		got, err := parseAcknowledged(header)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", header, got, want)
		}
	}
}

func FuzzParseNextLink(f *testing.F) {
	f.Add(`</a>; rel="next", </b>`)
	f.Fuzz(func(_ *testing.T, s string) { parseNextLink(s) })
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 0-9/100")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := parseContentRange(s)
		if err == nil && (last < first || total >= 0 && last >= total) {
			t.Fatalf("%q gave %d-%d/%d", s, first, last, total)
		}
	})
}
