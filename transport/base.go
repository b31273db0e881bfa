package transport

import (
	"net"
	"net/http"
	"time"
)

// bulkConnections is how many connections to one host are kept for more content.
// How many are open at once is up to the caller, since a request that waited for
// one here would wait within its time limit.
const bulkConnections = 32

// bulkBuffer is how much is read or written at once. The standard library's 4 KiB
// cost a system call for each.
const bulkBuffer = 256 << 10

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // a digest is over the bytes as they are
	}
}

// controlTransport carries small requests, over one HTTP/2 connection where the
// host speaks it.
func controlTransport() *http.Transport {
	t := newTransport()
	t.MaxIdleConnsPerHost = bulkConnections
	t.ForceAttemptHTTP2 = true
	return t
}

// bulkTransport carries content over HTTP/1.1: one HTTP/2 connection would make
// all streams share one congestion window.
func bulkTransport() *http.Transport {
	t := newTransport()
	t.MaxIdleConnsPerHost = bulkConnections
	t.WriteBufferSize = bulkBuffer
	t.ReadBufferSize = bulkBuffer
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	return t
}
