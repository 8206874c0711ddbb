// Package logs is the proxy's process log: slog handlers that write the lines
// its users know, plain or JSON, and a filter that can be changed while the
// proxy runs (proxy chapter, section 22.1).
//
//	l, err := logs.New(logs.Options{Out: os.Stdout, Filter: "warn,linkerd=info"})
//	log := logs.For(l.Logger(), "linkerd_app_inbound", "inbound", "server{port=8080}")
//	log.Info("Connection denied", "client", addr)
//	...
//	err = l.SetFilter("debug")
//
// A logger has a target, which the filter's directives name, and a context of
// spans. Everything may be used from any goroutine; lines are written whole.
package logs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/logfilter"
)

// Options are the log's settings.
type Options struct {
	Out io.Writer
	// Filter has the first directives.
	Filter string
	// JSON writes one object per line.
	JSON bool
	// Now tells the time; nil means time.Now. Started is what plain lines
	// count from.
	Now func() time.Time
}

// Log is a process's log.
type Log struct {
	opts    Options
	started time.Time
	filter  atomic.Pointer[logfilter.Filter]

	mu sync.Mutex
	// Out is written to under mu: a log is the one place where I/O under a
	// lock is meant, for lines must not mix.

	subs struct {
		sync.Mutex
		// list is guarded by the mutex; active mirrors its length.
		list   []*Subscription
		active atomic.Int32
	}
}

// New makes a log. The error is that of the filter.
func New(opts Options) (*Log, error) {
	f, err := logfilter.Parse(opts.Filter)
	if err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Log{opts: opts, started: opts.Now()}
	l.filter.Store(f)
	return l, nil
}

// Logger is a logger for the target "linkerd", without spans.
func (l *Log) Logger() *slog.Logger { return slog.New(&handler{log: l, target: "linkerd"}) }

// Filter is the filter in force.
func (l *Log) Filter() *logfilter.Filter { return l.filter.Load() }

// SetFilter replaces the filter; a text that cannot be parsed leaves the old
// one.
func (l *Log) SetFilter(text string) error {
	f, err := logfilter.Parse(text)
	if err != nil {
		return err
	}
	l.filter.Store(f)
	return nil
}

// For is log with another target and more spans. It has no effect on the spans
// of loggers that this package did not make.
func For(log *slog.Logger, target string, spans ...string) *slog.Logger {
	h, ok := log.Handler().(*handler)
	if !ok {
		return log
	}
	n := &handler{log: h.log, target: target, spans: h.spans, attrs: h.attrs, plain: h.plain, group: h.group}
	for _, s := range spans {
		if n.spans != "" {
			n.spans += ":"
		}
		n.spans += s
	}
	return slog.New(n)
}

// handler renders records. Its attributes are rendered when they are added.
type handler struct {
	log    *Log
	target string
	spans  string
	group  string
	attrs  []slog.Attr
	plain  string
	// cached is the level that a filter gives the target.
	cached atomic.Pointer[cachedLevel]
}

type cachedLevel struct {
	filter *logfilter.Filter
	level  slog.Level
}

var _ slog.Handler = (*handler)(nil)

func (h *handler) level() slog.Level {
	f := h.log.filter.Load()
	if c := h.cached.Load(); c != nil && c.filter == f {
		return c.level
	}
	c := &cachedLevel{f, f.Level(h.target)}
	h.cached.Store(c)
	return c.level
}

// Enabled reports whether the filter, or somebody who listens, wants level.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level() || h.log.subs.active.Load() > 0
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := &handler{log: h.log, target: h.target, spans: h.spans, group: h.group, plain: h.plain}
	n.attrs = append(n.attrs, h.attrs...)
	b := []byte(h.plain)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		n.attrs = append(n.attrs, a)
		b = appendPlain(b, a)
	}
	n.plain = string(b)
	return n
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{log: h.log, target: h.target, spans: h.spans, attrs: h.attrs, plain: h.plain, group: h.group + name + "."}
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	if h.log.subs.active.Load() > 0 {
		h.log.publish(h, r)
	}
	if r.Level < h.level() {
		return nil
	}
	var line []byte
	if h.log.opts.JSON {
		line = h.json(r)
	} else {
		line = h.text(r)
	}
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	_, err := h.log.opts.Out.Write(line)
	return err
}

// text renders "[     0.000000s]  INFO spans: target: message key=value".
func (h *handler) text(r slog.Record) []byte {
	up := max(h.log.opts.Now().Sub(h.log.started), 0)
	b := make([]byte, 0, 160)
	b = fmt.Appendf(b, "[%6d.%06ds] %5s ", int64(up/time.Second), int64(up%time.Second/time.Microsecond), logfilter.Name(r.Level))
	if h.spans != "" {
		b = append(append(b, h.spans...), ": "...)
	}
	b = append(append(b, h.target...), ": "...)
	b = append(b, r.Message...)
	b = append(b, h.plain...)
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.group + a.Key
		b = appendPlain(b, a)
		return true
	})
	return append(b, '\n')
}

// appendPlain writes key=value, quoting what would be hard to read or would
// make two lines of one.
func appendPlain(b []byte, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, g := range v.Group() {
			g.Key = a.Key + "." + g.Key
			b = appendPlain(b, g)
		}
		return b
	}
	b = append(append(append(b, ' '), a.Key...), '=')
	s := v.String()
	if a.Key != "error" && (s == "" || strings.ContainsAny(s, " \"=")) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

// event is the JSON form of a line.
type event struct {
	Timestamp string         `json:"timestamp"`
	Level     string         `json:"level"`
	Fields    map[string]any `json:"fields"`
	Target    string         `json:"target"`
	Spans     []span         `json:"spans"`
	ThreadID  string         `json:"threadId"`
}

type span struct {
	Name string `json:"name"`
}

func (h *handler) json(r slog.Record) []byte {
	e := event{
		Timestamp: h.log.opts.Now().UTC().Format("2006-01-02T15:04:05.000000Z"),
		Level:     logfilter.Name(r.Level),
		Fields:    map[string]any{"message": r.Message},
		Target:    h.target,
		Spans:     []span{},
		// Goroutines have no numbers that mean anything to a reader.
		ThreadID: "ThreadId(1)",
	}
	if h.spans != "" {
		for s := range strings.SplitSeq(h.spans, ":") {
			e.Spans = append(e.Spans, span{s})
		}
	}
	put := func(a slog.Attr) {
		v := a.Value.Resolve()
		switch v.Kind() {
		case slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindBool:
			e.Fields[a.Key] = v.Any()
		default:
			e.Fields[a.Key] = v.String()
		}
	}
	for _, a := range h.attrs {
		put(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.group + a.Key
		put(a)
		return true
	})
	b, err := json.Marshal(e)
	if err != nil {
		b = strconv.AppendQuote(nil, err.Error())
	}
	return append(b, '\n')
}

// Subscription is somebody who listens to events as they are logged.
type Subscription struct {
	log    *Log
	filter *logfilter.Filter
	events chan []byte
	// dropped counts what the listener was too slow for.
	dropped atomic.Uint64
}

// Subscribe delivers, as JSON lines, the events that the filter lets through,
// whatever the log's own filter says. Close has to be called.
func (l *Log) Subscribe(f *logfilter.Filter) *Subscription {
	s := &Subscription{log: l, filter: f, events: make(chan []byte, 256)}
	l.subs.Lock()
	defer l.subs.Unlock()
	l.subs.list = append(l.subs.list, s)
	l.subs.active.Add(1)
	return s
}

// Events are the lines. The channel is never closed.
func (s *Subscription) Events() <-chan []byte { return s.events }

// Dropped returns, and forgets, how many events were lost.
func (s *Subscription) Dropped() uint64 { return s.dropped.Swap(0) }

// Close ends the subscription.
func (s *Subscription) Close() {
	l := s.log
	l.subs.Lock()
	defer l.subs.Unlock()
	for i, o := range l.subs.list {
		if o == s {
			l.subs.list = append(l.subs.list[:i:i], l.subs.list[i+1:]...)
			l.subs.active.Add(-1)
			return
		}
	}
}

// publish gives an event to those who listen; one who is slow loses it.
func (l *Log) publish(h *handler, r slog.Record) {
	l.subs.Lock()
	list := l.subs.list
	l.subs.Unlock()
	var line []byte
	for _, s := range list {
		if r.Level < s.filter.Level(h.target) {
			continue
		}
		if line == nil {
			line = h.json(r)
		}
		select {
		case s.events <- line:
		default:
			s.dropped.Add(1)
		}
	}
}
