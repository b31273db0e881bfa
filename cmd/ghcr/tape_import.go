package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/llm-dev-ops/ghcr/cassette"
)

// vcrVersion is the format of go-vcr's versions 3 and 4.
const vcrVersion = 2

// The bounds of a go-vcr file, which is read as a whole: it has every body in it.
const (
	maxVCR             = 64 << 20
	maxVCRInteractions = 100_000
)

// vcrFile is what counts of a file of go-vcr.
type vcrFile struct {
	Version      int              `yaml:"version"`
	Interactions []vcrInteraction `yaml:"interactions"`
}

type vcrInteraction struct {
	Request struct {
		Method  string              `yaml:"method"`
		URL     string              `yaml:"url"`
		Headers map[string][]string `yaml:"headers"`
		Body    string              `yaml:"body"`
	} `yaml:"request"`
	Response struct {
		Proto         string              `yaml:"proto"`
		ContentLength int64               `yaml:"content_length"`
		Headers       map[string][]string `yaml:"headers"`
		Body          string              `yaml:"body"`
		Code          int                 `yaml:"code"`
	} `yaml:"response"`
}

func (a *app) tapeImportCommand() *cobra.Command {
	var wrongDigests bool
	cmd := &cobra.Command{
		Use:   "import FILE DIR",
		Short: "Make a cassette of a go-vcr file",
		Long: `Make a cassette of a file that go-vcr has written, of its version 3 or 4. It goes the
way of any recording: what is secret is replaced, digests are checked, upload sessions
and tokens are recognised. How long answers took is not kept, and neither are headers
that do not decide or make up an answer. Prints the digest.`,
		Example: "  ghcr tape import fixture.yaml imported",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			data, err := readVCR(given[0])
			if err != nil {
				return err
			}
			list, err := parseVCR(data)
			if err != nil {
				return usage("%s: %w", given[0], err)
			}
			return a.besideTape(given[1], func(aside string) (tapeSummary, error) {
				opts := cassette.Options{AllowWrongDigests: wrongDigests}
				if err := importVCR(aside, list, opts); err != nil {
					return tapeSummary{}, fmt.Errorf("import %s: %w", given[0], err)
				}
				return a.verifyTape(cmd, aside, opts)
			})
		},
	}
	cmd.Flags().BoolVar(&wrongDigests, "allow-wrong-digests", false, "take answers that are not what their digest says, as edited files have")
	return cmd
}

func readVCR(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage("%w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, usage("%s is not a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxVCR+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxVCR {
		return nil, usage("%s has more than %s; record it anew with --record", path, size(maxVCR))
	}
	return data, nil
}

// parseVCR reads a file of go-vcr. go-vcr uses no aliases, by which a short file could
// become a long one, so there may be none.
func parseVCR(data []byte) (list []*vcrExchange, err error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("it is no YAML: %w", err)
	}
	if err := plainYAML(&doc); err != nil {
		return nil, err
	}
	var head struct {
		Version *int `yaml:"version"`
	}
	if err := doc.Decode(&head); err != nil || head.Version == nil {
		return nil, errors.New("it is no file of go-vcr: it has no version")
	}
	if *head.Version != vcrVersion {
		return nil, fmt.Errorf("it has version %d of go-vcr's format; only %d is understood, which its versions 3 and 4 write: record it with one of them", *head.Version, vcrVersion)
	}
	var file vcrFile
	if err := doc.Decode(&file); err != nil {
		return nil, fmt.Errorf("it is no file of go-vcr: %s", quoted().ReplaceAllString(err.Error(), "a value"))
	}
	if n := len(file.Interactions); n == 0 || n > maxVCRInteractions {
		return nil, fmt.Errorf("it has %d interactions; want 1 to %d", n, maxVCRInteractions)
	}
	for n := range file.Interactions {
		x, err := newVCRExchange(&file.Interactions[n])
		if err != nil {
			return nil, fmt.Errorf("interaction %d: %w", n, err)
		}
		list = append(list, x)
	}
	return list, nil
}

// quoted is what an error shows of the file, which may be a secret.
var quoted = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("`[^`]*`") })

func plainYAML(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Tag == "!!merge" {
		return fmt.Errorf("line %d: it has an alias, which go-vcr does not write", n.Line)
	}
	for _, child := range n.Content {
		if err := plainYAML(child); err != nil {
			return err
		}
	}
	return nil
}

// vcrExchange is an interaction as requests and answers are.
type vcrExchange struct {
	req  *http.Request
	resp *http.Response
}

func newVCRExchange(i *vcrInteraction) (*vcrExchange, error) {
	u, err := url.Parse(i.Request.URL)
	if err != nil {
		return nil, errors.New("its URL is malformed") // and may hold a secret
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("its URL is none of a server: want http:// or https:// and a host")
	}
	if i.Response.Code < 200 || i.Response.Code > 599 {
		return nil, fmt.Errorf("its answer has the code %d", i.Response.Code)
	}
	req, err := http.NewRequest(strings.ToUpper(i.Request.Method), u.String(), nil)
	if err != nil {
		return nil, errors.New("its request is malformed")
	}
	if i.Request.Body != "" {
		req.Body = io.NopCloser(strings.NewReader(i.Request.Body))
		req.ContentLength = int64(len(i.Request.Body))
	}
	if req.Header, err = header(i.Request.Headers); err != nil {
		return nil, err
	}
	resp := &http.Response{
		StatusCode: i.Response.Code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		ContentLength: int64(len(i.Response.Body)), Body: io.NopCloser(strings.NewReader(i.Response.Body)),
	}
	if major, minor, ok := http.ParseHTTPVersion(i.Response.Proto); ok {
		resp.Proto, resp.ProtoMajor, resp.ProtoMinor = i.Response.Proto, major, minor
	}
	if i.Response.ContentLength < 0 || req.Method == http.MethodHead {
		resp.ContentLength = max(i.Response.ContentLength, -1)
	}
	resp.Header, err = header(i.Response.Headers)
	return &vcrExchange{req, resp}, err
}

func header(given map[string][]string) (http.Header, error) {
	h := http.Header{}
	for name, values := range given {
		for _, v := range values {
			if strings.ContainsAny(name+v, "\r\n\x00") || name == "" {
				return nil, errors.New("it has a malformed header")
			}
			h.Add(name, v)
		}
	}
	return h, nil
}

// importVCR plays a file of go-vcr to a cassette that records.
func importVCR(dir string, list []*vcrExchange, opts cassette.Options) (err error) {
	var answer *http.Response
	opts.Mode, opts.Origin = cassette.ModeRecord, "go-vcr"
	opts.Base = roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			io.Copy(io.Discard, req.Body)
			req.Body.Close()
		}
		return answer, nil
	})
	c, err := cassette.Open(dir, opts)
	if err != nil {
		return err
	}
	for n, x := range list {
		answer = x.resp
		resp, err := c.RoundTrip(x.req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("interaction %d: %w", n, err), c.Close())
		}
	}
	return c.Close()
}
