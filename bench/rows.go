//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// place is how far the registry is.
type place struct {
	name  string
	title string
	link  *link // nil is loopback
	// emulated has the emulated GHCR there, with its logins, redirects and quirks, in
	// place of the CNCF registry, which asks for no login.
	emulated bool
}

var places = []place{
	{name: "link", title: "Over a link of 40 ms round trip and 25 MB/s for each connection", link: &farLink},
	{name: "loopback", title: "Over loopback"},
	{name: "ghcr", title: "Over the same link, with a login, on the emulated GHCR", link: &farLink, emulated: true},
}

// row is one thing that clients are compared at.
type row struct {
	name  string
	image image
	op    operation
	// first is pushed once by each client before it is measured, and what it
	// remembers of that is kept: to a name of its own, or to where the measured
	// command pushes if same is set.
	first *image
	same  bool
	two   bool // the copy is to a second registry
	long  bool // two runs over the link will do
	goals map[string]goal
}

// goal is how many times faster than the best peer ghcr must be, at least.
type goal struct {
	faster   float64
	cpu      bool // and use no more CPU than the best
	requests int  // and take no more than so many; zero is not looked at
}

// notSlower allows for the noise that is left in a median.
const notSlower = 0.97

var rows = []row{
	{name: "push, 40 small layers", image: many, op: push, goals: map[string]goal{"link": {faster: 5}, "ghcr": {faster: 5}, "loopback": {faster: 1.5}}},
	{name: "push, Debian image", image: debian, op: push, goals: map[string]goal{"link": {faster: 1.15}, "ghcr": {faster: 1.15}, "loopback": {faster: notSlower}}},
	{name: "re-push, unchanged", image: debian, op: push, first: &debian, same: true, goals: map[string]goal{"link": {faster: 2, requests: 1}, "loopback": {faster: 1.5, requests: 1}, "ghcr": {faster: 2, requests: 1}}},
	{name: "push, blobs known elsewhere on the registry", image: derived, op: push, first: &debian, goals: map[string]goal{"link": {faster: notSlower}, "ghcr": {faster: notSlower}, "loopback": {faster: notSlower}}},
	{name: "push, index of 4 platforms", image: index, op: push},
	{name: "pull, Debian image", image: debian, op: pull, goals: map[string]goal{"link": {faster: 3}, "ghcr": {faster: 3}, "loopback": {faster: notSlower}}},
	{name: "pull, 40 small layers", image: many, op: pull, goals: map[string]goal{"link": {faster: 2.5}, "ghcr": {faster: 2.5}, "loopback": {faster: notSlower}}},
	{name: "copy within a registry, 40 small layers", image: many, op: copyImage, goals: map[string]goal{"link": {faster: 4}, "ghcr": {faster: 4}, "loopback": {faster: 1.3}}},
	{name: "copy between registries, Debian image", image: debian, op: copyImage, two: true, goals: map[string]goal{"link": {faster: 1.3}, "ghcr": {faster: 1.3}, "loopback": {faster: notSlower}}},
	{name: "pull, 4 layers of 512 MB", image: large, op: pull, long: true, goals: map[string]goal{"link": {faster: 2}, "loopback": {faster: 1.1, cpu: true}}},
	{name: "push, 4 layers of 512 MB", image: large, op: push, long: true, goals: map[string]goal{"link": {faster: notSlower}, "loopback": {faster: notSlower, cpu: true}}},
	{name: "list tags", image: index, op: list},
	{name: "digest of a tag", image: index, op: resolve},
}

// measuredAt tells whether a row is measured in a place. What is bound by the bytes
// of a large image is the same on any registry.
func (r row) measuredAt(where place) bool { return !where.emulated || !r.long }

// measureRow has the clients take turns at a row, in a registry made for it.
func (b *bench) measureRow(ctx context.Context, r row, where place) (t table, err error) {
	t = table{row: r, where: where}
	scratch := filepath.Join(b.dir, "scratch")
	if err := os.RemoveAll(scratch); err != nil {
		return t, err
	}
	defer os.RemoveAll(scratch)
	var stops []func() error
	defer func() {
		for _, stop := range slices.Backward(stops) {
			err = errors.Join(err, stop())
		}
	}()
	open := func(name string) (direct, way string, err error) {
		start := b.startRegistry
		if where.emulated {
			start = func(ctx context.Context, name string) (string, func() error, error) {
				return b.startEmulator(ctx, name, "ghcr")
			}
		}
		direct, stop, err := start(ctx, name)
		if err != nil || where.link == nil {
			stops = append(stops, stop)
			return direct, direct, err
		}
		stops = append(stops, stop)
		way, stop, err = where.link.open(direct)
		stops = append(stops, stop)
		return direct, way, err
	}
	direct, way, err := open("first")
	if err != nil {
		return t, err
	}
	to, server := way, direct
	if r.two {
		if server, to, err = open("second"); err != nil {
			return t, err
		}
	}
	counted, count, stop, err := openCounter(direct)
	if err != nil {
		return t, err
	}
	stops = append(stops, stop)
	if r.op != push {
		seed, err := b.newHome(ctx, "crane", []string{direct})
		if err != nil {
			return t, err
		}
		if _, err := b.measure(ctx, seed, b.command("crane", push, b.layout(r.image), direct+"/src/app:v1")); err != nil {
			return t, err
		}
	}
	racers := make([]*racer, len(b.clients))
	for i, client := range b.clients {
		racers[i] = &racer{bench: b, row: r, where: where, client: client, from: way, to: to, server: server}
		if racers[i].home, err = b.newHome(ctx, client, []string{way, to, counted}); err != nil {
			return t, err
		}
		if err := racers[i].prepare(ctx); err != nil {
			return t, err
		}
	}
	// The first round warms caches and is not counted, but where the link alone
	// decides. Each round has an order of its own, since what one client leaves to the
	// system is felt by the next.
	first, last := 1, b.runs
	if r.long && where.link != nil {
		first, last = 0, min(b.runs, 2)-1
	}
	order := rand.New(rand.NewPCG(1, 2))
	results := make([]figures, len(racers))
	for round := range last + 1 {
		for _, i := range order.Perm(len(racers)) {
			if slowest(results[i].runs) > tooSlow && len(results[i].runs) >= 2 {
				continue // more of it would show nothing new
			}
			c, err := racers[i].run(ctx)
			if err != nil {
				return t, err
			}
			if round >= first {
				results[i].runs = append(results[i].runs, c)
			}
		}
	}
	for i, racer := range racers {
		results[i].client = racer.client
		if !r.two && r.image.name != large.name {
			racer.from, racer.to = counted, counted
			if err := racer.prepare(ctx); err != nil {
				return t, err
			}
			count.n.Store(0)
			if _, err := racer.run(ctx); err != nil {
				return t, err
			}
			results[i].requests = count.n.Load()
		}
	}
	t.figures = results
	return t, nil
}

// tooSlow is a run, in seconds, after which two of them are enough.
const tooSlow = 8

func slowest(runs []cost) float64 {
	wall := 0.0
	for _, c := range runs {
		wall = max(wall, c.Wall)
	}
	return wall
}

// racer is a client in a row.
type racer struct {
	*bench
	row      row
	where    place
	client   string
	home     home
	from, to string // hosts
	server   string // the host that to leads to
	restore  func() error
	turn     int
}

// prepare has the client push what it is to remember.
func (r *racer) prepare(ctx context.Context) error {
	if r.row.first != nil {
		name := "known"
		if r.row.same {
			name = "same"
		}
		if _, err := r.do(ctx, push, r.layout(*r.row.first), r.to+"/"+r.client+"/"+name+":v1"); err != nil {
			return err
		}
	}
	var err error
	r.restore, err = r.home.save()
	return err
}

// run takes one turn.
func (r *racer) run(ctx context.Context) (cost, error) {
	if err := r.restore(); err != nil {
		return cost{}, err
	}
	r.turn++
	src, dst := r.from+"/src/app:v1", fmt.Sprintf("%s/%s/run%d:v1", r.to, r.client, r.turn)
	switch {
	case r.row.op == push:
		src = r.layout(r.row.image)
		if r.row.same {
			dst = r.to + "/" + r.client + "/same:v1"
		}
	case r.row.op == pull:
		dst = filepath.Join(r.dir, "scratch", "pulled")
		defer os.RemoveAll(dst)
	case r.row.op == list:
		src = r.from + "/src/app"
	}
	c, err := r.do(ctx, r.row.op, src, dst)
	if err != nil || r.row.op == list || r.row.op == resolve {
		return c, err
	}
	return c, r.check(ctx, strings.Replace(dst, r.to+"/", r.server+"/", 1))
}

// check looks at what arrived: all clients must have done the same work.
func (r *racer) check(ctx context.Context, dst string) error {
	want, err := layoutDigest(r.layout(r.row.image))
	if err != nil {
		return err
	}
	got := ""
	if r.row.op == pull {
		got, err = layoutDigest(dst)
	} else {
		got, err = tagDigest(ctx, dst)
	}
	if err == nil && got != want {
		err = fmt.Errorf("%s made %s of %s", r.client, got, want)
	}
	return err
}

// layoutDigest is the digest of a layout's image.
func layoutDigest(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return "", err
	}
	var index struct{ Manifests []oci.Descriptor }
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) == 0 {
		return "", fmt.Errorf("%s lists no image: %w", dir, err)
	}
	return index.Manifests[0].Digest.String(), nil
}

// tagDigest is the digest that a tag has in a registry.
func tagDigest(ctx context.Context, ref string) (string, error) {
	host, rest, _ := strings.Cut(ref, "/")
	name, tag, _ := strings.Cut(rest, ":")
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+host+"/v2/"+name+"/manifests/"+tag, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", strings.Join(oci.ManifestTypes, ", "))
	req.Header.Set("Authorization", "Bearer "+base64.StdEncoding.EncodeToString([]byte(ghcrtest.Token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest"), nil
}

// do runs the client. What ghcr.io is to ghcr, another host is only if it is told.
func (r *racer) do(ctx context.Context, op operation, src, dst string) (cost, error) {
	args := r.command(r.client, op, src, dst)
	if r.client == "ghcr" && r.where.emulated {
		args = append(args, "--registry", r.to)
	}
	return r.measure(ctx, r.home, args)
}
