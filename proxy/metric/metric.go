package metric

import (
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the registry's settings.
type Options struct {
	// Retain is how long an unused, unchanged series of an expiring family is
	// kept.
	Retain time.Duration
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// Limit is how many series a family may have, for peers have a say in
	// labels: beyond it those go that nobody holds, the longest unused first,
	// and if all are held new ones are not exported. 0 means DefaultLimit.
	Limit int
}

// DefaultLimit is far more than honest traffic makes, and about a megabyte a
// family.
const DefaultLimit = 5000

// Registry holds families in the order in which they were added. Legacy
// families are written first, as Prometheus text; the others follow as
// OpenMetrics text.
type Registry struct {
	opts Options
	mu   sync.Mutex
	// legacy, open and hooks are guarded by mu.
	legacy, open []*Family
	hooks        []func()
	// dropped counts the series that were given up for want of room.
	dropped atomic.Uint64
}

// NewRegistry returns an empty registry.
func NewRegistry(opts Options) *Registry {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Limit <= 0 {
		opts.Limit = DefaultLimit
	}
	return &Registry{opts: opts}
}

// Kind is the type of a family.
type Kind uint8

// The kinds of families.
const (
	CounterKind Kind = iota
	GaugeKind
	HistogramKind
)

func (k Kind) String() string {
	return [...]string{"counter", "gauge", "histogram"}[k]
}

// Option changes how a family behaves.
type Option func(*Family)

// Expires lets unused series vanish.
func Expires(f *Family) { f.expires = true }

// Unit states the family's unit, as OpenMetrics writes it.
func Unit(unit string) Option { return func(f *Family) { f.unit = unit } }

// Gauge makes a family of gauges.
func Gauge(f *Family) { f.kind = GaugeKind }

// Buckets makes a family of histograms with these upper bounds. Observations
// are whole numbers that scale times the exported value: with scale 1e9 and
// bounds in seconds, nanoseconds are observed.
func Buckets(scale float64, bounds ...float64) Option {
	return func(f *Family) {
		f.kind, f.scale, f.bounds = HistogramKind, scale, bounds
		for _, b := range bounds {
			f.limits = append(f.limits, uint64(math.Round(b*scale)))
		}
	}
}

// Family is all series of one name.
type Family struct {
	reg     *Registry
	name    string
	help    string
	unit    string
	kind    Kind
	expires bool
	legacy  bool
	scale   float64
	bounds  []float64
	limits  []uint64

	mu sync.Mutex
	// series and order are guarded by mu. order has the label sets as they
	// are written: by first use.
	series map[string]*series
	order  []*series
}

// series is one label set's state.
type series struct {
	labels string
	// refs, touched and seen are guarded by the family's mu. seen is the sum
	// of all values when the series was last looked at; touched is when that
	// was different from the time before.
	refs    int
	touched time.Time
	seen    uint64

	value  atomic.Uint64 // counter; gauge as float bits
	counts []atomic.Uint64
	sum    atomic.Uint64
	read   func() float64
}

func (s *series) version() uint64 {
	if s.counts == nil {
		return s.value.Load()
	}
	n := uint64(0)
	for i := range s.counts {
		n += s.counts[i].Load()
	}
	return n
}

// Legacy adds a family that is written as Prometheus text.
func (r *Registry) Legacy(name, help string, opts ...Option) *Family {
	return r.add(&r.legacy, &Family{name: name, help: help, legacy: true}, opts)
}

// Open adds a family that is written as OpenMetrics text. name has neither
// unit twice nor the suffix _total, which counters get when they are written.
func (r *Registry) Open(name, help string, opts ...Option) *Family {
	return r.add(&r.open, &Family{name: name, help: help}, opts)
}

func (r *Registry) add(list *[]*Family, f *Family, opts []Option) *Family {
	f.reg = r
	f.series = map[string]*series{}
	for _, o := range opts {
		o(f)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range *list {
		if g.name == f.name {
			panic("metric: family " + f.name + " was added twice")
		}
	}
	*list = append(*list, f)
	return f
}

// OnWrite has f called before each writing, to bring gauges up to date.
func (r *Registry) OnWrite(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks = append(r.hooks, f)
}

// hold finds or makes the series of a label set and counts its user.
func (f *Family) hold(labels string) *series {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.series[labels]
	if s == nil {
		s = &series{labels: strings.Clone(labels), touched: f.reg.opts.Now()}
		if f.kind == HistogramKind {
			s.counts = make([]atomic.Uint64, len(f.limits)+1)
		}
		if len(f.order) >= f.reg.opts.Limit && !f.evictLocked() {
			// It counts, but nobody will see it.
			f.reg.dropped.Add(1)
			s.refs = 1
			return s
		}
		f.series[s.labels] = s
		f.order = append(f.order, s)
	}
	s.refs++
	return s
}

// evictLocked removes a part of the series that nobody holds, the longest unused
// ones, and reports whether there were any.
func (f *Family) evictLocked() bool {
	var idle []*series
	for _, s := range f.order {
		if s.refs == 0 {
			idle = append(idle, s)
		}
	}
	slices.SortStableFunc(idle, func(a, b *series) int { return a.touched.Compare(b.touched) })
	// Several at a time, for finding them takes a look at all.
	idle = idle[:min(len(idle), max(f.reg.opts.Limit/10, 1))]
	for _, s := range idle {
		delete(f.series, s.labels)
	}
	f.order = slices.DeleteFunc(f.order, func(s *series) bool { return f.series[s.labels] != s })
	f.reg.dropped.Add(uint64(len(idle)))
	return len(idle) > 0
}

// Dropped is how many series were given up because their family had too many.
func (r *Registry) Dropped() uint64 { return r.dropped.Load() }

// Families describes all families, in the order in which they are written.
func (r *Registry) Families() []Description {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Description
	for _, list := range [][]*Family{r.legacy, r.open} {
		for _, f := range list {
			d := Description{Name: f.name, Kind: f.kind, Bounds: f.bounds}
			if !f.legacy && f.kind == CounterKind {
				d.Name += "_total"
			}
			out = append(out, d)
		}
	}
	return out
}

// Description is what a family looks like.
type Description struct {
	// Name is the name of its series, without the suffixes of histograms.
	Name   string
	Kind   Kind
	Bounds []float64
}

func (f *Family) release(s *series) {
	if s == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.refs--
	if s.refs == 0 {
		s.touched = f.reg.opts.Now()
		s.seen = s.version()
	}
}

// Counter is a handle on a number that only grows. The zero Counter counts
// nowhere.
type Counter struct {
	f *Family
	s *series
}

// Counter returns a handle on the series with these labels; see Labels.
func (f *Family) Counter(labels string) Counter { return Counter{f, f.hold(labels)} }

// Add adds n.
func (c Counter) Add(n uint64) {
	if c.s != nil {
		c.s.value.Add(n)
	}
}

// Value is the number so far.
func (c Counter) Value() uint64 {
	if c.s == nil {
		return 0
	}
	return c.s.value.Load()
}

// Release gives the handle back; it must not be used afterwards.
func (c Counter) Release() {
	if c.f != nil {
		c.f.release(c.s)
	}
}

// Count adds one to a series for which no handle is kept, for events that are
// rare.
func (f *Family) Count(labels string) {
	c := f.Counter(labels)
	c.Add(1)
	c.Release()
}

// GaugeHandle is a handle on a number that goes up and down.
type GaugeHandle struct {
	f *Family
	s *series
}

// Gauge returns a handle on the series with these labels.
func (f *Family) Gauge(labels string) GaugeHandle { return GaugeHandle{f, f.hold(labels)} }

// Func makes the series with these labels, of any kind but histograms, have
// the value that read returns at the time of writing. read must not block.
func (f *Family) Func(labels string, read func() float64) {
	s := f.hold(labels)
	f.mu.Lock()
	s.read = read
	f.mu.Unlock()
}

// Set sets the value.
func (g GaugeHandle) Set(v float64) {
	if g.s != nil {
		g.s.value.Store(math.Float64bits(v))
	}
}

// Add adds d, which may be negative.
func (g GaugeHandle) Add(d float64) {
	if g.s == nil {
		return
	}
	for {
		old := g.s.value.Load()
		if g.s.value.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+d)) {
			return
		}
	}
}

// Value is the value that was set last.
func (g GaugeHandle) Value() float64 {
	if g.s == nil {
		return 0
	}
	return math.Float64frombits(g.s.value.Load())
}

// Release gives the handle back; it must not be used afterwards.
func (g GaugeHandle) Release() {
	if g.f != nil {
		g.f.release(g.s)
	}
}

// Histogram is a handle on a distribution.
type Histogram struct {
	f *Family
	s *series
}

// Histogram returns a handle on the series with these labels.
func (f *Family) Histogram(labels string) Histogram { return Histogram{f, f.hold(labels)} }

// Observe counts v, in the scaled whole numbers that the family was made for.
func (h Histogram) Observe(v uint64) {
	if h.s == nil {
		return
	}
	i := 0
	if len(h.f.limits) < 8 {
		for i < len(h.f.limits) && v > h.f.limits[i] {
			i++
		}
	} else {
		i = sort.Search(len(h.f.limits), func(i int) bool { return v <= h.f.limits[i] })
	}
	h.s.counts[i].Add(1)
	h.s.sum.Add(v)
}

// ObserveDuration counts d in a family with scale 1e9; negative durations,
// which only a clock that was set back can give, count as zero.
func (h Histogram) ObserveDuration(d time.Duration) { h.Observe(uint64(max(d, 0))) }

// Release gives the handle back; it must not be used afterwards.
func (h Histogram) Release() {
	if h.f != nil {
		h.f.release(h.s)
	}
}

// Labels renders a label set from names and values in turn. The result is what
// the families' methods take; it can be extended with Join.
func Labels(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(pairs[i])
		b.WriteString(`="`)
		escape(&b, pairs[i+1])
		b.WriteByte('"')
	}
	return b.String()
}

// Join puts rendered label sets one after the other; empty ones are left out,
// so that no two commas can meet.
func Join(sets ...string) string {
	n := 0
	only := ""
	for _, s := range sets {
		if s != "" {
			n++
			only = s
		}
	}
	if n <= 1 {
		return only
	}
	var b strings.Builder
	for _, s := range sets {
		if s == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s)
	}
	return b.String()
}

func escape(b *strings.Builder, v string) {
	if !strings.ContainsAny(v, "\\\"\n") {
		b.WriteString(v)
		return
	}
	for i := range len(v) {
		switch v[i] {
		case '\\':
			b.WriteString(`\\`)
		case '"':
			b.WriteString(`\"`)
		case '\n':
			b.WriteString(`\n`)
		default:
			b.WriteByte(v[i])
		}
	}
}
