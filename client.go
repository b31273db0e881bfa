package ghcr

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Options configure a [Client]. The zero value reads public images of ghcr.io.
type Options struct {
	// Registry is the host of references that name none: ghcr.io if empty, or the
	// registry of another GitHub, such as "containers.github.example.com". It is
	// taken to behave as GHCR does.
	Registry string
	// API is the address of the REST API that goes with Registry. Empty means
	// https://api.github.com for ghcr.io, and for another GitHub the one that goes
	// with its registry's name: containers.HOST has https://HOST/api/v3.
	API string
	// Credentials finds the login for a host. Nil is anonymous; [Logins] looks
	// where people keep theirs.
	Credentials transport.CredentialSource
	// Security finds the login for security data: attestations, code scanning,
	// Dependabot, advisories. GitHub takes kinds of token for it that it does not take
	// for packages, and the other way round. It is asked for the host of the API alone,
	// and what it gives goes nowhere else. Nil is the login for packages;
	// [SecurityLogin] looks in the environment.
	Security transport.CredentialSource
	// OSV is the address of OSV's API, which is asked only where [VulnOptions.Enrich]
	// says so. Empty means https://api.osv.dev, and for a registry on loopback its own
	// address, where an emulator has it.
	OSV string
	// Base carries requests. Nil is the network; [*ghcrtest.Server] has one that
	// leads to an emulator.
	Base http.RoundTripper
	// PlainHTTP speaks HTTP to loopback hosts. Other hosts are spoken to over TLS
	// whatever it says.
	PlainHTTP bool
	// UserAgent names the program to servers; a default if empty.
	UserAgent string
	// Logger gets a line for each request at debug level, with secrets removed.
	// Nil logs nothing.
	Logger *slog.Logger
	// Observer is told of each request. Nil is told nothing.
	Observer transport.Observer
	// CacheDir is where is kept what saves work later: which repository has which
	// blob, open upload sessions, manifests, what is attached to images, and lists of the
	// API; and what it takes to undo deletions. It holds no credential. Empty keeps this in memory, and neither
	// lists nor undo.
	CacheDir string
	// UndoDir is where undo files go that have no name of their own; empty is
	// CacheDir/undo.
	UndoDir string
	// Random is where is read what is made up and sent; nil is [crypto/rand.Reader]. One
	// that gives the same again makes a program do the same again, as the replay of a
	// recording needs it.
	Random io.Reader
	// ChunkSize, in bytes, uploads larger blobs in chunks; zero in one request.
	// See [registry.Options].
	ChunkSize int64
	// MaxWait bounds each wait for a rate limit. Zero means the default of
	// [transport.Options].
	MaxWait time.Duration
}

// Client works with GHCR, and with any other OCI registry. It is safe for
// concurrent use; there is nothing to close.
type Client struct {
	opts      Options
	transport *transport.Client
	packages  *packages.Client // nil where no API is known
	security  *security.Client // likewise
	memory    *transfer.Memory
	manifests *manifestCache
	documents *documentCache
	fetching  fetching
	absence   *absence
	journal   *registry.Journal

	charged atomic.Int64 // requests to the API that counted on its limits

	mu    sync.Mutex
	hosts map[string]*registry.Host
	dice  sync.Mutex // held to read Options.Random
}

// New returns a client.
//
// Errors: [ErrInvalid] for a malformed registry host or API address.
func New(opts Options) (*Client, error) {
	if opts.Registry == "" {
		opts.Registry = oci.DefaultRegistry
	}
	opts.Registry = strings.ToLower(opts.Registry)
	c := &Client{opts: opts, hosts: map[string]*registry.Host{}, memory: transfer.OpenMemory(""), manifests: openManifests(""), documents: openDocuments(""), absence: openAbsence("")}
	if opts.CacheDir != "" {
		c.memory = transfer.OpenMemory(filepath.Join(opts.CacheDir, "blobs"))
		c.journal = registry.OpenJournal(filepath.Join(opts.CacheDir, "uploads"))
		c.manifests = openManifests(filepath.Join(opts.CacheDir, "manifests"))
		c.documents = openDocuments(filepath.Join(opts.CacheDir, "documents"))
		c.absence = openAbsence(filepath.Join(opts.CacheDir, "absent"))
	}
	api, err := apiOf(opts)
	if err != nil {
		return nil, err
	}
	credentials := opts.Credentials
	if api != nil && credentials != nil {
		credentials = registryLogins{credentials, api.Host, opts.Registry}
	}
	if c.transport, err = c.newTransport(credentials); err != nil {
		return nil, err
	}
	if _, err := c.host(opts.Registry); err != nil {
		return nil, err
	}
	if api != nil {
		if c.packages, err = packages.New(c.transport, c.packagesOptions(api)); err != nil {
			return nil, err
		}
		if c.security, err = c.newSecurity(api); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Client) newTransport(credentials transport.CredentialSource) (*transport.Client, error) {
	return transport.New(transport.Options{
		Base:        c.opts.Base,
		Credentials: credentials,
		Rules:       c.authRules,
		PlainHTTP:   c.opts.PlainHTTP,
		UserAgent:   c.opts.UserAgent,
		Logger:      c.opts.Logger,
		Observer:    counting{c},
		MaxWait:     c.opts.MaxWait,
	})
}

func (c *Client) packagesOptions(api *url.URL) packages.Options {
	options := packages.Options{BaseURL: api.String()}
	if c.opts.CacheDir != "" {
		options.CacheDir = filepath.Join(c.opts.CacheDir, "api")
	}
	return options
}

// newSecurity makes the client of security data. With the login for packages it shares
// that one's limits, since GitHub counts by login.
func (c *Client) newSecurity(api *url.URL) (*security.Client, error) {
	anonymous, err := c.newTransport(nil)
	if err != nil {
		return nil, err
	}
	options := security.Options{API: c.packages, Transport: anonymous, Store: c.documents, OSV: c.opts.OSV}
	if options.OSV == "" && transport.IsLoopback(c.opts.Registry) {
		options.OSV = "https://" + c.opts.Registry
		if c.opts.PlainHTTP {
			options.OSV = "http://" + c.opts.Registry
		}
	}
	if c.opts.Credentials != nil || c.opts.Security != nil {
		if options.Public, err = packages.New(anonymous, c.packagesOptions(api)); err != nil {
			return nil, err
		}
	}
	if c.opts.Security != nil {
		own, err := c.newTransport(loginOf{c.opts.Security, api.Host})
		if err != nil {
			return nil, err
		}
		if options.API, err = packages.New(own, c.packagesOptions(api)); err != nil {
			return nil, err
		}
	}
	return security.New(options)
}

// counting is the observer of the options, and counts what GitHub counts: an answer
// that nothing changed is free (docs/quirks.md#rest-conditional).
type counting struct{ client *Client }

func (o counting) Exchange(e transport.Exchange) {
	c := o.client
	if c.packages != nil && e.Host == c.packages.Host() && e.Status != http.StatusNotModified {
		c.charged.Add(1)
	}
	if c.opts.Observer != nil {
		c.opts.Observer.Exchange(e)
	}
}

// Wait implements [transport.WaitObserver].
func (o counting) Wait(w transport.Wait) {
	if told, ok := o.client.opts.Observer.(transport.WaitObserver); ok {
		told.Wait(w)
	}
}

// Packages returns the client of GitHub's Packages API that goes with the registry.
//
// Errors: [ErrInvalid] where none is known: Options.API says where it is.
func (c *Client) Packages() (*packages.Client, error) {
	if c.packages == nil {
		return nil, oci.Invalid("it is not known where the API is that goes with %s: say it in Options.API", c.opts.Registry)
	}
	return c.packages, nil
}

// Security returns the client of GitHub's security data that goes with the registry.
//
// Errors: [ErrInvalid] where no API is known: Options.API says where it is.
func (c *Client) Security() (*security.Client, error) {
	if _, err := c.Packages(); err != nil {
		return nil, err
	}
	return c.security, nil
}

// apiOf finds the address of the API that goes with the registry
// (docs/quirks.md#rest-hosts). It is nil where none is known.
func apiOf(opts Options) (*url.URL, error) {
	host, github := strings.CutPrefix(opts.Registry, "containers.")
	address := opts.API
	switch {
	case address != "":
	case opts.Registry == oci.DefaultRegistry:
		address = packages.DefaultBaseURL
	case github && strings.HasSuffix(host, ".ghe.com"):
		address = "https://api." + host
	case github:
		address = "https://" + host + "/api/v3"
	case transport.IsLoopback(opts.Registry) && opts.PlainHTTP:
		address = "http://" + opts.Registry + "/api/v3"
	case transport.IsLoopback(opts.Registry):
		address = "https://" + opts.Registry + "/api/v3"
	default:
		return nil, nil
	}
	if strings.Contains(address, "@") { // not shown, since it may be a secret
		return nil, oci.Invalid("the address of an API has no login in it: leave out what is before the @")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, oci.Invalid("malformed address of an API: %q", address)
	}
	return u, nil
}

// isGHCR tells whether a host is a registry of GitHub's.
func (c *Client) isGHCR(host string) bool {
	return host == oci.DefaultRegistry || host == c.opts.Registry
}

// authRules says what is known of a host's logins before it is asked
// (docs/quirks.md#direct-bearer).
func (c *Client) authRules(host string) transport.HostRules {
	switch {
	case host == oci.DefaultRegistry:
		return transport.HostRules{Realm: "https://ghcr.io/token", Service: "ghcr.io", DirectBearer: true}
	case c.isGHCR(host):
		return transport.HostRules{DirectBearer: true}
	}
	return transport.HostRules{}
}

func (c *Client) host(name string) (*registry.Host, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hosts[name]; h != nil {
		return h, nil
	}
	h, err := registry.New(c.transport, name, c.registryOptions(name))
	if err != nil {
		return nil, err
	}
	c.hosts[name] = h
	return h, nil
}

func (c *Client) registryOptions(host string) registry.Options {
	opts := registry.Options{
		ChunkSize: c.opts.ChunkSize, Journal: c.journal,
		PlainHTTP: c.opts.PlainHTTP && transport.IsLoopback(host),
	}
	if c.isGHCR(host) {
		opts.Rules = registry.GHCR
	}
	return opts
}

// nonce makes up a text that nothing else has.
func (c *Client) nonce() (string, error) {
	c.dice.Lock()
	defer c.dice.Unlock()
	source := c.opts.Random
	if source == nil {
		source = rand.Reader
	}
	var b [16]byte
	if _, err := io.ReadFull(source, b[:]); err != nil {
		return "", fmt.Errorf("read what is random: %w", err)
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]), nil
}

// Registry returns the host of references that name none, with its port if it has one: that
// of the packages that [Client.Packages] knows.
func (c *Client) Registry() string { return c.opts.Registry }

// ParseRef is [oci.ParseRef] with the client's default registry.
//
// Errors: [ErrInvalid].
func (c *Client) ParseRef(s string) (oci.ImageRef, error) {
	return oci.ParseRefDefault(s, c.opts.Registry)
}

// Repository returns the repository that a reference is in, on whatever host. Tag
// and digest are not looked at.
//
// Errors: [ErrInvalid].
func (c *Client) Repository(ref oci.ImageRef) (*registry.Repository, error) {
	h, err := c.host(ref.Registry)
	if err != nil {
		return nil, err
	}
	return h.Repository(ref.Name)
}
