package ghcrtest_test

import (
	"fmt"
	"log"
	"net/http"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// An image is put into a server, and the second request for its tags is refused for a
// limit. Any client that takes a transport can be put to the test so, and with [Start] any
// that takes an address.
func Example() {
	server, err := ghcrtest.New(ghcrtest.Options{Public: []string{"acme/app"}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", []byte("a layer"))); err != nil {
		log.Fatal(err)
	}
	server.Inject(ghcrtest.Fault{
		Name: "limited", Route: ghcrtest.RouteTags, After: 1,
		Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"60"}},
	})

	client := http.Client{Transport: server.Transport()}
	for range 2 {
		req, err := http.NewRequest(http.MethodGet, "https://ghcr.io/v2/acme/app/tags/list", nil)
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer QQ==") // as GHCR takes it for public images
		resp, err := client.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	fmt.Println(len(server.Requests()), "requests,", len(server.Faults()), "fault")
	// Output:
	// 200 OK
	// 429 Too Many Requests
	// 2 requests, 1 fault
}
