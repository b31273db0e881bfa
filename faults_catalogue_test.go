package ghcr_test

import (
	"cmp"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/packages"
)

// ordeal is what the client has to come through when a fault of the catalogue
// happens.
type ordeal struct {
	do     func(s *sandbox, inject func())
	quirks func(*ghcrtest.Quirks)
	least  time.Duration // virtual time that it takes
	within time.Duration // … at most; 0 is an hour
	most   int           // times that one thing is asked for; 0 is 6
}

// ordeals has what the client does for each entry of the catalogue.
var ordeals = map[string]ordeal{
	"F1a":              {do: pushes(nil)},
	"F1b":              {do: pushes(nil), least: 29 * time.Second},
	"F1b.date":         {do: pulls(nil), least: 24 * time.Second},
	"F2a":              {do: inventories(nil), least: time.Minute},
	"F2a.429":          {do: inventories(nil), least: time.Minute},
	"F2b":              {do: inventories(nil), least: time.Minute},
	"F2b.429":          {do: inventories(nil), least: time.Minute},
	"F2b.silent":       {do: inventories(nil), least: time.Minute},
	"F3a":              {do: pushes(nil)},
	"F3a.500":          {do: pulls(nil)},
	"F3a.502":          {do: inventories(nil)},
	"F3a.504":          {do: pulls(nil)},
	"F3a.forever":      {do: pushes(errTyped)},
	"F3b":              {do: pulls(nil)},
	"F3b.range":        {do: pulls(nil)},
	"F4a":              {do: pushes(nil), least: 11 * time.Second},
	"F4a.late":         {do: pushes(nil), least: 5 * time.Minute},
	"F4b":              {do: pushes(nil), least: 11 * time.Second},
	"F5":               {do: pushes(nil)},
	"F5.present":       {do: pushes(nil)},
	"F6a":              {do: pushesInChunks},
	"F6b":              {do: pushesSmallChunks},
	"F6b.order":        {do: pushesSmallChunks},
	"F6c":              {do: pushesSmallChunks},
	"F6c.commit":       {do: pushes(nil)},
	"F7":               {do: pushes(nil)},
	"F7.redirect":      {do: pushes(errTold)},
	"F7.reset":         {do: pushes(nil)},
	"F8a":              {do: readsAll(false)},
	"F8a.empty":        {do: readsAll(false)},
	"F8b":              {do: readsAll(false)},
	"F8b.last":         {do: readsAll(false)},
	"F8b.cut":          {do: readsAll(false)},
	"F8b.chunk":        {do: readsAll(false)},
	"F8c":              {do: readsAll(true)},
	"F9a":              {do: pulls(ghcr.ErrIntegrity)},
	"F9a.manifest":     {do: pulls(ghcr.ErrIntegrity)},
	"F9a.header":       {do: pulls(ghcr.ErrIntegrity)},
	"F9b":              {do: pulls(ghcr.ErrIntegrity)},
	"F9b.long":         {do: pulls(ghcr.ErrIntegrity)},
	"F9b.type":         {do: pulls(ghcr.ErrInvalid)},
	"F9c":              {do: tagMoves},
	"F10":              {do: pulls(nil), least: 30 * time.Second, within: 5 * time.Minute},
	"F10.slow":         {do: pulls(nil), least: blobSize / 500 * time.Second},
	"F10.stall":        {do: pulls(nil), least: time.Minute, within: 5 * time.Minute},
	"F10.header":       {do: pulls(nil), least: 30 * time.Second, within: 5 * time.Minute},
	"F11a":             {do: pulls(nil), quirks: noDirect},
	"F11a.once":        {do: pushes(nil), quirks: noDirect},
	"F11b":             {do: pushes(nil)},
	"F11b.forever":     {do: pushes(ghcr.ErrDenied)},
	"F11b.scope":       {do: pushes(nil), quirks: noDirect},
	"F11b.placeholder": {do: pushes(nil)},
	"F11c":             {do: pushes(nil), quirks: noDirect},
	"F11c.forever":     {do: pushes(errTyped), quirks: noDirect},
	"F12a":             {do: pulls(nil)},
	"F12b":             {do: looksUpBlob},
	"F12c":             {do: pulls(nil)},
	"F12d":             {do: pulls(nil)},
	"F12d.loop":        {do: pulls(errTold), most: 8},
	"F12d.http":        {do: pulls(errTold)},
	"F13":              {do: pulls(nil)},
	"F13.range":        {do: pulls(nil)},
	"F13.416":          {do: pulls(nil)},
	"F14":              {do: refersAnd(true)},
	"F14.redirect":     {do: refersAnd(true)},
	"F14.html":         {do: refersAnd(true)},
	"F14.limit":        {do: refersAnd(true)},
	"F15a":             {do: tagNames(fiveTags...)},
	"F15a.default":     {do: tagNames(fiveTags...)},
	"F15a.missing":     {do: manyTags},
	"F15a.loop":        {do: endlessTags},
	"F15a.api":         {do: inventories(nil)},
	"F15b":             {do: tagNames(fiveTags...)},
	"F15b.deleted":     {do: tagNames(fiveTags[:4]...)},
	"F15b.api":         {do: inventories(nil)},
	"F16a":             {do: lateLists, least: 15 * time.Second, most: 16},
	"F16a.masked":      {do: deletes(packages.NoPermission, ghcr.Failed, ghcr.Skipped, ghcr.Skipped)},
	"F16a.304":         {do: inventories(errTold)},
	"F16b":             {do: deletes(packages.LastTagged, ghcr.Blocked, ghcr.Done, ghcr.Done)},
	"F16b.downloads":   {do: deletes(packages.TooManyDownloads, ghcr.Blocked, ghcr.Done, ghcr.Done)},
	"F16b.conflict":    {do: restores},
	"F16c":             {do: deletes(nil, ghcr.Done, ghcr.Done, ghcr.Done)},
	"F16c.forever":     {do: deletes(errTyped, ghcr.Done, ghcr.Failed, ghcr.Failed), most: 7},
	"F17":              {do: retags},
	"F17.lost":         {do: refersAnd(false)},
	"F18.hold":         {do: givesUp},
	"F18.ahead":        {do: pulls(nil), quirks: noDirect},
	"F18.behind":       {do: pulls(nil), quirks: noDirect, within: time.Minute},
}

// TestFaultCatalogue injects each entry of the emulator's catalogue by its name and has
// the client come through it: the outcome is the one that is demanded, the fault did
// happen, and nothing was asked for more often than the policy has it. F18, the
// client's own disk, is in transfer's TestStageOnFullDisk and in TestCancelAtAnyPoint.
func TestFaultCatalogue(t *testing.T) {
	for _, e := range ghcrtest.Catalogue() {
		if len(e.Faults) == 0 {
			continue
		}
		o, ok := ordeals[e.ID]
		if !ok {
			t.Errorf("%s, %s: nobody goes through it", e.ID, e.Title)
			continue
		}
		t.Run(e.ID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quirks := ghcrtest.GHCR()
				if o.quirks != nil {
					o.quirks(&quirks)
				}
				s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
				began := time.Now()
				o.do(s, func() { s.server.Inject(ghcrtest.NamedFault(e.ID)...) })
				if took := time.Since(began); took < o.least || took > cmp.Or(o.within, max(time.Hour, 2*o.least)) {
					t.Errorf("%s: took %s, want at least %s", e.Title, took, o.least)
				}
				if len(s.server.Faults()) == 0 {
					t.Errorf("%s: it did not happen", e.Title)
				}
				asked := map[string]int{}
				for _, r := range s.log() {
					thing := r.Method + " " + r.Path + " " + r.Query + " " + r.Range
					if asked[thing]++; asked[thing] == max(o.most, 6)+1 {
						t.Errorf("asked more than %d times: %s", max(o.most, 6), thing)
					}
				}
			})
		})
	}
}
