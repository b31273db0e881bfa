package ghcrtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pipeFront serves in the process: a real HTTP server and client with a pipe
// between them in place of a socket. No TLS runs over it, whatever the URL says.
type pipeFront struct {
	mu        sync.Mutex
	server    *http.Server
	listener  *pipeListener
	transport *http.Transport
	serving   sync.WaitGroup // connections
}

// Transport returns a transport that leads to this server for every host. It may
// be called again and always returns the same one. It works inside of
// testing/synctest, if the server was made there.
func (s *Server) Transport() http.RoundTripper {
	p := &s.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.transport != nil {
		return p.transport
	}
	p.listener = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.server = newHTTPServer(s.Handler())
	p.server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			p.serving.Add(1)
		case http.StateClosed, http.StateHijacked:
			p.serving.Done()
		}
	}
	go p.server.Serve(p.listener)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return p.listener.dial(ctx) }
	p.transport = &http.Transport{
		DialContext: dial, DialTLSContext: dial, DisableCompression: true,
		MaxIdleConnsPerHost: 64, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
	}
	return p.transport
}

func (p *pipeFront) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.transport == nil {
		return
	}
	p.transport.CloseIdleConnections()
	p.server.Close()
	// A connection outlives its closing by a moment; a synctest bubble would find it.
	p.serving.Wait()
}

func newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:     h,
		ErrorLog:    log.New(io.Discard, "", 0), // broken connections are what faults are for
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
}

type connKey struct{}

func connOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	wasReset := new(atomic.Bool)
	select {
	case l.conns <- &pipeConn{Conn: server, wasReset: wasReset}:
		return &pipeConn{Conn: client, wasReset: wasReset}, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// pipeConn is one end of a pipe that can break as a TCP connection does.
type pipeConn struct {
	net.Conn
	wasReset *atomic.Bool
}

// reset makes the other end see a connection reset.
func (c *pipeConn) reset() {
	c.wasReset.Store(true)
	c.Conn.Close()
}

func (c *pipeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.explain("read", err)
}

func (c *pipeConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.explain("write", err)
}

func (c *pipeConn) explain(op string, err error) error {
	if err != nil && c.wasReset.Load() {
		return &net.OpError{Op: op, Net: "pipe", Err: syscall.ECONNRESET}
	}
	return err
}

// Listener serves on a socket. Close it.
type Listener struct {
	http *http.Server
	addr net.Addr
	tls  bool
	ca   []byte
	done chan error
}

// Listen serves on a loopback address such as "127.0.0.1:5000", a port of 0 being
// any that is free. With TLS it speaks HTTPS with a certificate for loopback names
// and the names of the emulated hosts; [Listener.CA] is what clients must trust.
//
// Errors: an address that is in use or not loopback.
func (s *Server) Listen(addr string, withTLS bool) (*Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("the emulator serves on loopback addresses only, such as 127.0.0.1:5000: its one token is public")
	}
	socket, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &Listener{http: newHTTPServer(s.Handler()), addr: socket.Addr(), tls: withTLS, done: make(chan error, 1)}
	if withTLS {
		cert, ca, err := certificate()
		if err != nil {
			socket.Close()
			return nil, err
		}
		l.ca = ca
		l.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	go func() {
		if withTLS {
			l.done <- l.http.ServeTLS(socket, "", "")
		} else {
			l.done <- l.http.Serve(socket)
		}
	}()
	return l, nil
}

// Addr returns host and port.
func (l *Listener) Addr() string { return l.addr.String() }

// URL returns scheme, host and port.
func (l *Listener) URL() string {
	if l.tls {
		return "https://" + l.Addr()
	}
	return "http://" + l.Addr()
}

// CA returns the certificate to trust in PEM, or nil without TLS.
func (l *Listener) CA() []byte { return l.ca }

// Close stops serving at once.
func (l *Listener) Close() error {
	err := l.http.Close()
	if served := <-l.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// certificate makes a certificate that signs itself.
func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "ghcr emulator"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", RegistryHost, CDNHost, APIHost, WebHost, OSVHost},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca, nil
}

// Running is a server that is reached over a loopback port.
type Running struct {
	*Server
	listener *Listener
}

// Start serves on a free loopback port, over plain HTTP, until the test ends.
func Start(t testing.TB, opts Options) *Running {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatalf("start the emulator: %v", err)
	}
	l, err := s.Listen("127.0.0.1:0", false)
	if err != nil {
		s.Close()
		t.Fatalf("start the emulator: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Errorf("stop the emulator: %v", err)
		}
	})
	return &Running{Server: s, listener: l}
}

// Host returns host and port, as references name the registry.
func (r *Running) Host() string { return r.listener.Addr() }

// URL returns scheme, host and port.
func (r *Running) URL() string { return r.listener.URL() }
