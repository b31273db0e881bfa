package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// progressLine is how often a line is printed where there are no bars.
const progressLine = 15 * time.Second

// reporter shows how a transfer gets on. Its listen is an argument of the copy;
// its end is called when that is over.
type reporter struct {
	listen func(transfer.Event)
	end    func()
}

// newReporter chooses a form: bars on a terminal, else a line now and then.
func (a *app) newReporter() reporter {
	form := a.flags.progress
	if form == "auto" {
		form = "plain"
		if a.isTerminal(a.stderr) && a.getenv("CI") == "" {
			form = "bar"
		}
		if a.flags.quiet {
			form = "none"
		}
	}
	switch form {
	case "bar":
		return barReporter(unwrapped(a.stderr)) // only a file is seen to be a terminal
	case "plain":
		return lineReporter(a.stderr)
	case "json":
		return jsonReporter(a.stderr)
	}
	return reporter{end: func() {}}
}

func barReporter(w io.Writer) reporter {
	bars := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(120*time.Millisecond))
	var mu sync.Mutex
	shown := map[oci.Digest]*mpb.Bar{}
	return reporter{
		listen: func(e transfer.Event) {
			mu.Lock()
			defer mu.Unlock()
			d := e.Descriptor
			bar := shown[d.Digest]
			switch e.Kind {
			case transfer.EventStart:
				if bar == nil && d.Size > 0 {
					shown[d.Digest] = bars.AddBar(d.Size,
						mpb.BarRemoveOnComplete(),
						mpb.PrependDecorators(decor.Name(shortDigest(d.Digest)+"  ")),
						mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f"), decor.Name("  "), decor.AverageSpeed(decor.SizeB1000(0), "% .1f")))
				}
			case transfer.EventProgress, transfer.EventDone:
				if bar != nil {
					bar.SetCurrent(e.Bytes)
				}
			case transfer.EventMounted, transfer.EventExisting:
				if bar != nil {
					bar.Abort(true)
				}
			}
		},
		end: func() {
			mu.Lock()
			for _, bar := range shown {
				bar.Abort(true)
			}
			mu.Unlock()
			bars.Wait()
		},
	}
}

// lineReporter prints a line now and then: enough for a CI log to show that
// something moves, and never a flood.
func lineReporter(w io.Writer) reporter {
	var mu sync.Mutex
	moved := map[oci.Digest]int64{}
	known := map[oci.Digest]int64{}
	began, last := time.Now(), time.Now()
	return reporter{
		listen: func(e transfer.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e.Kind {
			case transfer.EventStart:
				known[e.Descriptor.Digest] = e.Descriptor.Size
			case transfer.EventProgress, transfer.EventDone:
				moved[e.Descriptor.Digest] = e.Bytes
			}
			if time.Since(last) >= progressLine {
				last = time.Now()
				var done, total int64
				for d, n := range known {
					total += n
					done += moved[d]
				}
				fmt.Fprintf(w, "ghcr: %s of %s after %s\n", size(done), size(total), time.Since(began).Round(time.Second))
			}
		},
		end: func() {},
	}
}

// progressEvent is a line of --progress json.
type progressEvent struct {
	Type   string     `json:"type"`
	Digest oci.Digest `json:"digest"`
	Size   int64      `json:"size"`
	Bytes  int64      `json:"bytes"`
	Ref    string     `json:"ref,omitempty"`
}

func jsonReporter(w io.Writer) reporter {
	var mu sync.Mutex
	enc := json.NewEncoder(w)
	return reporter{
		listen: func(e transfer.Event) {
			mu.Lock()
			defer mu.Unlock()
			enc.Encode(progressEvent{string(e.Kind), e.Descriptor.Digest, e.Descriptor.Size, e.Bytes, e.Ref})
		},
		end: func() {},
	}
}

// summary says in one line what a transfer did.
func summary(r transfer.Result, took time.Duration) string {
	if r.Unchanged {
		return "unchanged: it is there already"
	}
	text := plural(r.Uploaded, "blob") + " moved (" + size(r.Bytes) + ")"
	if r.Mounted > 0 {
		text += fmt.Sprintf(", %d mounted", r.Mounted)
	}
	if r.Existing > 0 {
		text += fmt.Sprintf(", %d there already", r.Existing)
	}
	if r.Referrers > 0 {
		text += ", " + plural(r.Referrers, "referrer")
	}
	return text + ", in " + took.Round(10*time.Millisecond).String()
}
