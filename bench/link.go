//go:build linux

package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// link is a way to a server that is long: every byte arrives half a round trip
// later, and each connection carries so many bytes a second each way.
type link struct {
	rtt  time.Duration
	rate float64 // bytes per second and connection; zero is no limit
}

// the wide-area link of the targets
var farLink = link{rtt: 40 * time.Millisecond, rate: 25e6}

// open listens on a loopback port and forwards what arrives there.
func (l link) open(to string) (host string, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(conn.(*net.TCPConn), to)
		}
	}()
	return listener.Addr().String(), listener.Close, nil
}

func (l link) carry(client *net.TCPConn, to string) {
	defer client.Close()
	time.Sleep(l.rtt) // the handshake's
	conn, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() { l.pipe(server, client) })
	both.Go(func() { l.pipe(client, server) })
	both.Wait()
}

const (
	packetSize = 32 << 10
	// A link holds this much of what is on its way; more waits at the sender, as in
	// a router with a short queue.
	linkQueue = 20 * time.Millisecond
)

type packet struct {
	due  time.Time
	data []byte
}

// pipe carries one direction until it ends, and then says so to the other side.
func (l link) pipe(dst, src *net.TCPConn) {
	onItsWay := make(chan packet, 256)
	free := make(chan []byte, 256)
	go func() {
		defer close(onItsWay)
		var idle time.Time // when the link has sent what it was given
		for {
			var buf []byte
			select {
			case buf = <-free:
			default:
				buf = make([]byte, packetSize)
			}
			n, err := src.Read(buf)
			if n > 0 {
				if now := time.Now(); idle.Before(now) {
					idle = now
				}
				if l.rate > 0 {
					idle = idle.Add(time.Duration(float64(n) / l.rate * 1e9))
				}
				onItsWay <- packet{idle.Add(l.rtt / 2), buf[:n]}
				if ahead := time.Until(idle); ahead > linkQueue {
					time.Sleep(ahead - linkQueue)
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range onItsWay {
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait)
		}
		if _, err := dst.Write(p.data); err != nil {
			src.CloseRead()
			for range onItsWay {
			}
			return
		}
		select {
		case free <- p.data[:packetSize]:
		default:
		}
	}
	dst.CloseWrite()
}

// counter forwards HTTP requests and counts them.
type counter struct {
	proxy *httputil.ReverseProxy
	n     atomic.Int64
}

func openCounter(to string) (host string, c *counter, stop func() error, err error) {
	c = &counter{proxy: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: to})
			r.Out.Host = r.In.Host // the registry builds its URLs from it
		},
		FlushInterval: -1,
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, nil, err
	}
	server := &http.Server{Handler: c}
	go server.Serve(listener)
	return listener.Addr().String(), c, func() error {
		if err := server.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}, nil
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.Add(1)
	c.proxy.ServeHTTP(w, r)
}
