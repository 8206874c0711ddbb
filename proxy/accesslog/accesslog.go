// Package accesslog writes a line for each inbound request (proxy chapter,
// section 22.2).
//
//	log := accesslog.New(accesslog.Apache, os.Stderr)
//	log.Write(&accesslog.Entry{...})
//
// A nil *Log writes nothing. Lines are written whole; Write may be called from
// any goroutine. What an entry points to is not kept.
package accesslog

import (
	"encoding/json"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Format is how lines look.
type Format uint8

// The formats.
const (
	Apache Format = iota + 1
	JSON
)

// ParseFormat gives the format called s and whether there is one.
func ParseFormat(s string) (Format, bool) {
	switch s {
	case "apache":
		return Apache, true
	case "json":
		return JSON, true
	}
	return 0, false
}

// Log writes lines.
type Log struct {
	format Format
	mu     sync.Mutex
	// out and buf are guarded by mu: lines must not mix.
	out io.Writer
	buf []byte
}

// New makes a log in the given format.
func New(f Format, out io.Writer) *Log { return &Log{format: f, out: out} }

// Entry is one request.
type Entry struct {
	Client   netip.AddrPort
	ClientID string
	// Received is when the request came, Total how long the response's head
	// took, Processing the part of it spent in the proxy itself.
	Received          time.Time
	Total, Processing time.Duration
	Request           *exchange.RequestHead
	// Response is nil if the request was dropped without one.
	Response *exchange.ResponseHead
}

// Write writes the entry's line.
func (l *Log) Write(e *Entry) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.format == JSON {
		l.buf = e.appendJSON(l.buf[:0])
	} else {
		l.buf = e.appendApache(l.buf[:0])
	}
	// There is nowhere to report that the report could not be written.
	_, _ = l.out.Write(append(l.buf, '\n'))
}

const timestamp = "2006-01-02T15:04:05.000000000Z"

func (e *Entry) id() string {
	if e.ClientID == "" {
		return "-"
	}
	return e.ClientID
}

// uri is the request's target as it was asked for.
func (e *Entry) appendURI(b []byte) []byte {
	r := e.Request
	if len(r.Authority) > 0 && len(r.Path) > 0 {
		scheme := r.Scheme
		if len(scheme) == 0 {
			scheme = []byte("http")
		}
		b = append(append(append(b, scheme...), "://"...), r.Authority...)
	} else if len(r.Path) == 0 {
		return append(b, r.Authority...)
	}
	return append(b, r.Path...)
}

func (e *Entry) status() int {
	if e.Response == nil {
		return 0
	}
	return e.Response.Status
}

func (e *Entry) appendApache(b []byte) []byte {
	b = append(b, e.Client.String()...)
	b = append(append(append(b, ' '), e.id()...), " - ["...)
	b = e.Received.UTC().AppendFormat(b, timestamp)
	b = append(b, `] "`...)
	b = append(append(b, e.Request.Method...), ' ')
	b = e.appendURI(b)
	b = append(append(b, ' '), e.Request.Version.String()...)
	b = append(b, `" `...)
	return strconv.AppendInt(b, int64(e.status()), 10)
}

func (e *Entry) appendJSON(b []byte) []byte {
	h := func(f *exchange.Fields, names ...string) string {
		for _, n := range names {
			if v := f.Get(n); v != nil {
				return string(v)
			}
		}
		return ""
	}
	response := ""
	if e.Response != nil {
		response = h(&e.Response.Fields, "content-length")
	}
	line := struct {
		Client     string `json:"client.addr"`
		ID         string `json:"client.id"`
		Timestamp  string `json:"timestamp"`
		Method     string `json:"method"`
		URI        string `json:"uri"`
		Version    string `json:"version"`
		Trace      string `json:"trace_id"`
		Request    string `json:"request_bytes"`
		Status     int    `json:"status"`
		Response   string `json:"response_bytes"`
		Total      string `json:"total_ns"`
		Processing string `json:"processing_ns"`
		Agent      string `json:"user_agent"`
		Host       string `json:"host"`
	}{
		Client: e.Client.String(), ID: e.id(), Timestamp: e.Received.UTC().Format(timestamp),
		Method: string(e.Request.Method), URI: string(e.appendURI(nil)), Version: e.Request.Version.String(),
		Trace:   h(&e.Request.Fields, "x-b3-traceid", "x-request-id", "x-amzn-trace-id"),
		Request: h(&e.Request.Fields, "content-length"), Status: e.status(), Response: response,
		Total:      strconv.FormatInt(e.Total.Nanoseconds(), 10),
		Processing: strconv.FormatInt(e.Processing.Nanoseconds(), 10),
		Agent:      h(&e.Request.Fields, "user-agent"), Host: h(&e.Request.Fields, "host"),
	}
	out, err := json.Marshal(line)
	if err != nil {
		return b
	}
	return append(b, out...)
}
