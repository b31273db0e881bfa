package cassette

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// index finds the answer to a request. What a request is, but for its body, is its
// key; the answers of one key and body are given in the order in which they were
// asked for, but first of all by the epoch.
//
// Upload sessions are a tree. A live session is at a node of it, which stands for
// all that it has done so far, and goes on to any recorded session that did the
// same: which one it is need not be known before they part. So uploads that begin
// alike are told apart by their content, however many run at once.
type index struct {
	order    Order
	repeat   Repeat
	plain    *node            // of requests that belong to no upload session
	sessions map[string]*node // by the key of the request that opened them
	orphan   *node            // of sessions that another recording opened
	items    []*item          // in the order of their start
	logins   logins
	reads    map[string]*reads // by their key without the range
	next     int               // the first that was not used, for [OrderStrict]
}

type node struct{ edges map[string]*edge }

// edge is a key at a node: its answers, and where a session is after one.
type edge struct {
	full    map[string]*queue  // by the request's body, and besides by that and its login
	unread  int                // how many are left in full
	partial map[string][]*item // by as much of the request's body as was read
	cuts    map[int64]int      // how many are left in partial, by size
	to      *node
}

// item is an interaction that may be used.
type item struct {
	*Interaction
	place int
	used  bool
	reads *reads // those that read the same blob; nil if it reads none
	whole *Body  // what the answer's body is a part of, where it was not read so
}

func newNode() *node { return &node{edges: map[string]*edge{}} }

func (n *node) edge(key string) *edge {
	e := n.edges[key]
	if e == nil {
		e = &edge{full: map[string]*queue{}, partial: map[string][]*item{}, cuts: map[int64]int{}, to: newNode()}
		n.edges[key] = e
	}
	return e
}

func newIndex(entries []*Interaction, order Order, repeat Repeat) *index {
	x := &index{order: order, repeat: repeat, plain: newNode(), orphan: newNode(), sessions: map[string]*node{}, logins: newLogins(), reads: map[string]*reads{}}
	for _, i := range slices.SortedStableFunc(slices.Values(entries), func(a, b *Interaction) int {
		return cmp.Or(cmp.Compare(a.Time.Start, b.Time.Start), cmp.Compare(a.Seq, b.Seq))
	}) {
		x.items = append(x.items, &item{Interaction: i, place: len(x.items)})
	}
	at := map[int]*node{} // where each recorded session is
	for _, it := range x.items {
		key := it.Request.key()
		if n := sessionIn(it.Request.Path); n > 0 {
			from := at[n]
			if from == nil {
				from = x.orphan
			}
			e := from.edge(key)
			if order == OrderNone {
				e.to = from
			} else {
				at[n] = e.to
			}
			e.add(it)
			continue
		}
		x.plain.edge(key).add(it)
		x.logins.add(it)
		x.addRead(it)
		if n := it.opens(); n > 0 && at[n] == nil {
			at[n] = x.opened(key)
		}
	}
	return x
}

// opened is where the sessions are that a request has opened.
func (x *index) opened(key string) *node {
	n := x.sessions[key]
	if n == nil {
		n = newNode()
		x.sessions[key] = n
	}
	return n
}

// sessionIn returns the number of the upload session in a path, or zero.
func sessionIn(s string) int {
	m := uploadForm().FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// opens returns the number of the upload session that the answer brought.
func (i *Interaction) opens() int {
	for _, c := range i.Captures {
		if n, ok := strings.CutPrefix(c.Var, "upload:"); ok {
			v, _ := strconv.Atoi(n)
			return v
		}
	}
	return 0
}

func (e *edge) add(it *item) {
	b := &it.Request.Body
	if b.Partial {
		e.partial[b.key()] = append(e.partial[b.key()], it)
		e.cuts[b.Size]++
		return
	}
	for _, key := range it.Request.queues() {
		q := e.full[key]
		if q == nil {
			q = &queue{byEpoch: map[int][]*item{}}
			e.full[key] = q
		}
		q.items = append(q.items, it)
		q.byEpoch[it.Epoch] = append(q.byEpoch[it.Epoch], it)
		if at, known := slices.BinarySearch(q.epochs, it.Epoch); !known {
			q.epochs = slices.Insert(q.epochs, at, it.Epoch)
		}
	}
	e.unread++
}

// queues names those that a request's answer may be in, the best first: that of
// its very login, and that of all that will do.
func (r *Request) queues() []string {
	key := r.Body.key()
	if scheme, _ := kindOf(r.Auth); scheme != r.login() {
		return []string{key + " " + scheme, key}
	}
	return []string{key}
}

// queue holds the answers to one request.
type queue struct {
	items   []*item
	byEpoch map[int][]*item
	epochs  []int // in order, without those that are used up and were come by
	last    *item
}

func firstUnused(list []*item) []*item {
	for len(list) > 0 && list[0].used {
		list = list[1:]
	}
	return list
}

// peek returns the answer to give next: that of this epoch, or else of the last one
// before it, or else the first that is left.
func (q *queue) peek(epoch int, order Order) *item {
	if order != OrderNone {
		at, _ := slices.BinarySearch(q.epochs, epoch+1)
		for at--; at >= 0; at-- {
			list := firstUnused(q.byEpoch[q.epochs[at]])
			q.byEpoch[q.epochs[at]] = list
			if len(list) > 0 {
				return list[0]
			}
			q.epochs = slices.Delete(q.epochs, at, at+1)
		}
	}
	q.items = firstUnused(q.items)
	if len(q.items) > 0 {
		return q.items[0]
	}
	return nil
}

// live is a request as it is now.
type live struct {
	request  Request
	key      string
	epoch    int
	prefixes map[int64]oci.Digest // of its body, at the sizes where one was cut off
}

// take returns the answer to a request of an edge, or nil.
func (x *index) take(e *edge, l *live) *item {
	if e == nil {
		return nil
	}
	var q *queue
	var found *item
	queues := l.request.queues()
	for _, key := range queues {
		if q = e.full[key]; q != nil {
			if found = q.peek(l.epoch, x.order); found != nil {
				break
			}
		}
	}
	for size := range e.cuts {
		key := BodyEmpty
		if size > 0 {
			key = bodyKey(l.prefixes[size], size)
		}
		e.partial[key] = firstUnused(e.partial[key])
		if list := e.partial[key]; len(list) > 0 && (found == nil || list[0].place < found.place) {
			found = list[0]
		}
	}
	if found == nil {
		free := l.request.Role == roleToken && x.order != OrderStrict
		if q != nil && (x.repeat == RepeatAny || x.repeat == RepeatSafe && isSafe(l.request.Method) || free) {
			return q.last
		}
		return nil
	}
	if x.order == OrderStrict {
		for x.next < len(x.items) && x.items[x.next].used {
			x.next++
		}
		if x.items[x.next] != found {
			return nil
		}
	}
	found.used = true
	found.reads.took(found)
	x.logins.took(found)
	if b := &found.Request.Body; !b.Partial {
		e.unread--
		for _, key := range queues {
			if q := e.full[key]; q != nil {
				q.last = found
			}
		}
	} else if e.cuts[b.Size]--; e.cuts[b.Size] == 0 {
		delete(e.cuts, b.Size)
	}
	return found
}

// gaveUp tells whether the program did not wait for the answer. Mostly that is because
// something else failed, and whether the request went out before is chance.
func (i *Interaction) gaveUp() bool {
	return i.Response.Status == 0 && i.Response.Error != nil && i.Response.Error.Class == gaveUp
}

// unused returns what no request asked for.
func (x *index) unused() []*Interaction {
	var list []*Interaction
	for _, it := range x.items {
		if !it.used && (x.order == OrderStrict || !it.gaveUp() && !x.logins.excused(it) && !it.reads.excused() && !x.looked(it)) {
			list = append(list, it.Interaction)
		}
	}
	return list
}

// looked tells whether an answer need not have been asked for, since it is of a look at
// what changes, and there were others: how often a program looks goes by the clock, such
// as once a minute while it deletes, and a replay takes less time.
func (x *index) looked(it *item) bool {
	r := &it.Request
	if r.Method != http.MethodGet && r.Method != http.MethodHead || it.reads != nil {
		return false
	}
	e := x.plain.edges[r.key()]
	return e != nil && slices.ContainsFunc(r.queues(), func(key string) bool { return e.full[key] != nil && e.full[key].last != nil })
}

// fields are what must be equal for an answer to be given, as they are shown. The
// numbers of upload sessions are no part of it.
func (r *Request) fields() [][2]string {
	list := [][2]string{
		{"method", r.Method}, {"host", r.Scheme + "://" + r.Host}, {"path", numberless(r.Path)}, {"query", r.Query}, {"auth", r.login()},
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		list = append(list, [2]string{name, strings.Join(r.Header[name], ", ")})
	}
	return list
}

func numberless(s string) string { return uploadForm().ReplaceAllLiteralString(s, "{upload}") }

func (r *Request) key() string { return r.keyWithout("") }

func (r *Request) keyWithout(field string) string {
	var b strings.Builder
	for _, f := range r.fields() {
		if f[0] == field {
			continue
		}
		b.WriteString(f[0])
		b.WriteByte('=')
		b.WriteString(f[1])
		b.WriteByte('\n')
	}
	return b.String()
}

func (b *Body) key() string {
	if b.Mode == BodyEmpty {
		return BodyEmpty
	}
	return bodyKey(b.Digest, b.Size)
}

func bodyKey(d oci.Digest, size int64) string { return string(d) + " " + strconv.FormatInt(size, 10) }
