package transport

import (
	"net"
	"net/http"
	"time"
)

// bulkConnections is how many connections to one host are kept for more content.
// How many are open at once is up to the caller, since a request that waited for
// one here would wait within its time limit.
const bulkConnections = 64

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
// all streams share one congestion window. Its buffers are the small ones of the
// standard library, which large reads go past and files that the kernel sends must
// not go through.
func bulkTransport() *http.Transport {
	t := newTransport()
	t.MaxIdleConnsPerHost = bulkConnections
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	return t
}
