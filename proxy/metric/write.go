package metric

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// AppendText appends the whole exposition to b.
func (r *Registry) AppendText(b []byte) []byte {
	r.mu.Lock()
	legacy := r.legacy[:len(r.legacy):len(r.legacy)]
	open := r.open[:len(r.open):len(r.open)]
	hooks := r.hooks[:len(r.hooks):len(r.hooks)]
	r.mu.Unlock()
	for _, h := range hooks {
		h()
	}
	now := r.opts.Now()
	for _, f := range legacy {
		b = f.appendText(b, now)
	}
	for _, f := range open {
		b = f.appendText(b, now)
	}
	return append(b, "# EOF\n"...)
}

// appendText drops what has expired and appends the rest, nothing at all if
// there is no series.
func (f *Family) appendText(b []byte, now time.Time) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expireLocked(now)
	if len(f.order) == 0 {
		return b
	}
	name, help := f.name, f.help
	if !f.legacy && len(help) > 0 && help[len(help)-1] != '.' {
		help += "."
	}
	b = append(append(append(append(b, "# HELP "...), name...), ' '), help...)
	b = append(append(append(append(b, "\n# TYPE "...), name...), ' '), f.kind.String()...)
	b = append(b, '\n')
	if !f.legacy && f.unit != "" {
		b = append(append(append(append(b, "# UNIT "...), name...), ' '), f.unit...)
		b = append(b, '\n')
	}
	for _, s := range f.order {
		if f.kind == HistogramKind {
			b = f.appendHistogram(b, s)
			continue
		}
		suffix := ""
		if !f.legacy && f.kind == CounterKind {
			suffix = "_total"
		}
		b = appendName(b, name, suffix, s.labels, "")
		switch {
		case s.read != nil:
			b = appendFloat(b, s.read(), false)
		case f.kind == GaugeKind:
			b = appendFloat(b, math.Float64frombits(s.value.Load()), false)
		default:
			b = strconv.AppendUint(b, s.value.Load(), 10)
		}
		b = append(b, '\n')
	}
	return b
}

// expireLocked removes the series that nobody holds and that did not change
// for the time they are retained.
func (f *Family) expireLocked(now time.Time) {
	if !f.expires {
		return
	}
	keep := f.order[:0]
	for _, s := range f.order {
		if v := s.version(); v != s.seen {
			s.seen, s.touched = v, now
		}
		if s.refs == 0 && now.Sub(s.touched) >= f.reg.opts.Retain {
			delete(f.series, s.labels)
			continue
		}
		keep = append(keep, s)
	}
	clear(f.order[len(keep):])
	f.order = keep
}

// Expire removes series that are due without writing anything; it keeps a
// proxy that is never scraped from growing.
func (r *Registry) Expire() {
	r.mu.Lock()
	legacy := r.legacy[:len(r.legacy):len(r.legacy)]
	r.mu.Unlock()
	now := r.opts.Now()
	for _, f := range legacy {
		f.mu.Lock()
		f.expireLocked(now)
		f.mu.Unlock()
	}
}

func (f *Family) appendHistogram(b []byte, s *series) []byte {
	total := uint64(0)
	sum := float64(s.sum.Load()) / f.scale
	count := uint64(0)
	buckets := func(b []byte) []byte {
		for i := range s.counts {
			total += s.counts[i].Load()
			le := "+Inf"
			if i < len(f.bounds) {
				le = string(appendFloat(nil, f.bounds[i], !f.legacy))
			}
			b = appendName(b, f.name, "_bucket", s.labels, le)
			b = strconv.AppendUint(b, total, 10)
			b = append(b, '\n')
		}
		count = total
		return b
	}
	if f.legacy {
		b = buckets(b)
		b = appendName(b, f.name, "_count", s.labels, "")
		b = append(strconv.AppendUint(b, count, 10), '\n')
		b = appendName(b, f.name, "_sum", s.labels, "")
		return append(appendFloat(b, sum, false), '\n')
	}
	for i := range s.counts {
		count += s.counts[i].Load()
	}
	b = appendName(b, f.name, "_sum", s.labels, "")
	b = append(appendFloat(b, sum, true), '\n')
	b = appendName(b, f.name, "_count", s.labels, "")
	b = append(strconv.AppendUint(b, count, 10), '\n')
	return buckets(b)
}

func appendName(b []byte, name, suffix, labels, le string) []byte {
	b = append(append(b, name...), suffix...)
	if labels != "" || le != "" {
		b = append(append(b, '{'), labels...)
		if le != "" {
			if labels != "" {
				b = append(b, ',')
			}
			b = append(append(append(b, `le="`...), le...), '"')
		}
		b = append(b, '}')
	}
	return append(b, ' ')
}

// appendFloat writes whole numbers without exponent; point demands a decimal
// point, as OpenMetrics wants in le labels and sums.
func appendFloat(b []byte, v float64, point bool) []byte {
	n := len(b)
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		b = strconv.AppendInt(b, int64(v), 10)
	} else {
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
	}
	if point && !bytes.ContainsAny(b[n:], ".eIN") {
		b = append(b, ".0"...)
	}
	return b
}
