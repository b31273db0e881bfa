package retain

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// largePackage has n versions: releases of two platforms, as BuildKit makes them, with
// five versions each.
func largePackage(t testing.TB, n int) *Inventory {
	inv := &Inventory{Host: "ghcr.io", Owner: "acme", OwnerID: 7, Package: "app", PackageID: 9, Taken: today}
	start := today.AddDate(-3, 0, 0)
	parse := func(mediaType, text string) *oci.Manifest {
		m, err := oci.ParseManifest(mediaType, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	add := func(m *oci.Manifest, tags ...string) *oci.Manifest {
		at := start.Add(time.Duration(len(inv.Versions)) * 10 * time.Minute)
		inv.Versions = append(inv.Versions, Version{ID: int64(1000 + len(inv.Versions)), Digest: m.Digest(), Tags: tags, Created: at, Updated: at, Manifest: m})
		return m
	}
	image := func(name string) *oci.Manifest {
		layers := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":1000}`, bytesDigest([]byte(name)))
		return add(parse(oci.MediaTypeOCIManifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","digest":"%s","size":2},"layers":[%s,%s]}`,
			oci.MediaTypeOCIManifest, imageConfig, bytesDigest([]byte("config of "+name)),
			fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":30000000}`, emptyConfig), layers)))
	}
	for i := 0; len(inv.Versions) < n; i++ {
		list := ""
		for _, arch := range []string{"amd64", "arm64"} {
			m := image(fmt.Sprint(arch, i))
			a := image(fmt.Sprint("attestation of ", arch, i))
			list += fmt.Sprintf(`{"mediaType":"%s","digest":"%s","size":%d,"platform":{"os":"linux","architecture":"%s"}},`, m.MediaType, m.Digest(), len(m.Bytes()), arch)
			list += fmt.Sprintf(`{"mediaType":"%s","digest":"%s","size":%d,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"%s"}},`,
				a.MediaType, a.Digest(), len(a.Bytes()), m.Digest())
		}
		add(parse(oci.MediaTypeOCIIndex, fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}`, oci.MediaTypeOCIIndex, list[:len(list)-1])), fmt.Sprintf("1.%d.%d", i/100, i%100))
	}
	return inv
}

// releasesPolicy keeps some of each minor version and lets old ones go.
func releasesPolicy(t testing.TB) *Policy {
	all, err := ParseRange(">=0.0.0-0")
	if err != nil {
		t.Fatal(err)
	}
	return rules(
		Rule{Name: "releases", Match: Match{Semver: all}, Keep: &Keep{Last: 5, Per: "minor"}, Delete: &When{OlderThan: 180 * day}},
		Rule{Name: "untagged", Match: Match{Untagged: true}, Delete: &When{OlderThan: 7 * day}},
	)
}

// BenchmarkMake100k plans on 100 000 versions that were all read. peak-B/version is what
// planning takes beside the inventory.
func BenchmarkMake100k(b *testing.B) {
	const n = 100_000
	inv := largePackage(b, n)
	policy := releasesPolicy(b)
	b.ReportAllocs()
	for b.Loop() {
		peak := watchHeap(func() {
			plan, err := Make(policy, inv, Facts{}, today)
			if err != nil || len(plan.Actions) < n/2 {
				b.Fatal(len(plan.Actions), err)
			}
		})
		b.ReportMetric(float64(peak)/n, "peak-B/version")
	}
}

// TestMemoryGrowsWithThePackage: ten times the versions take ten times the memory, and
// not more.
func TestMemoryGrowsWithThePackage(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes a large package")
	}
	policy := releasesPolicy(t)
	of := func(n int) float64 {
		inv := largePackage(t, n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Make(policy, inv, Facts{}, today); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
	}
	if small, large := of(3000), of(30_000); large > 1.3*small || large > 20_000 {
		t.Errorf("%.0f bytes for each of 3 000 versions, %.0f for each of 30 000", small, large)
	}
}

// watchHeap returns by how much the heap grew at most while do ran.
func watchHeap(do func()) uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	before := read()
	stop, peak := make(chan bool), make(chan uint64)
	go func() {
		most := before
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(2 * time.Millisecond):
				most = max(most, read())
			}
		}
	}()
	do()
	close(stop)
	return <-peak - before
}
