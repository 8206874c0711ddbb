// Package accesslog writes a line for each request, once its response is over
// (proxy chapter, section 22.2).
//
//	log := accesslog.New(accesslog.Apache, os.Stderr)
//	e := log.Begin(client, id, now)     // nil if there is no log
//	e.Request(head)                     // as it was asked for
//	e.Response(head, now)
//	...
//	e.Duration, e.Error = …
//	log.Write(e)
//
// A nil *Log begins no entries and writes nothing, and a nil *Entry takes down
// nothing, so that requests cost nothing where no log is wanted. Lines are
// written whole; Write may be called from any goroutine. An Entry belongs to its
// request and refers to nothing of it.
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
	// Apache is upstream's line, which ends with the status.
	Apache Format = iota + 1
	// JSON has upstream's keys, and after them ours.
	JSON
	// ApacheExtended is Apache's line with what JSON has more behind it.
	ApacheExtended
)

// ParseFormat gives the format called s and whether there is one.
func ParseFormat(s string) (Format, bool) {
	switch s {
	case "apache":
		return Apache, true
	case "json":
		return JSON, true
	case "apache-extended":
		return ApacheExtended, true
	}
	return 0, false
}

// Log writes lines.
type Log struct {
	format   Format
	outbound bool
	mu       sync.Mutex
	// out and buf are guarded by mu: lines must not mix.
	out io.Writer
	buf []byte
}

// New makes a log in the given format. Logs that share a writer take turns at
// it by themselves only if the writer lets them, as files do for whole lines.
func New(f Format, out io.Writer) *Log { return &Log{format: f, out: out} }

// Outbound is a log of the same kind for requests of the application.
func Outbound(f Format, out io.Writer) *Log { return &Log{format: f, out: out, outbound: true} }

// Entry is one request.
type Entry struct {
	Client   netip.AddrPort
	ClientID string
	// Server and ServerID are the endpoint that answered, with outbound
	// requests.
	Server   netip.AddrPort
	ServerID string
	// Received is when the request came, Total how long the response's head
	// took, Elsewhere the part of it that was not spent in the proxy, Duration
	// how long it took until all was over.
	Received                   time.Time
	Total, Elsewhere, Duration time.Duration
	// Status is 0 if the request was dropped without a response.
	Status int
	// GRPC is the grpc-status, empty if there was none.
	GRPC string
	// RequestBytes and ResponseBytes are the lengths of the bodies as they went
	// by.
	RequestBytes, ResponseBytes uint64
	// Error is why the request was not answered by its server, or not to the
	// end; empty if all went well.
	Error string

	asked                      bool
	method, uri, trace, agent  string
	host                       string
	version                    exchange.Version
	requestLength, replyLength int64
}

// unknown is the length of a body that no head tells.
const unknown = -1

// Begin begins the entry of a request that came at the given time; nil if there
// is no log.
func (l *Log) Begin(client netip.AddrPort, id string, at time.Time) *Entry {
	if l == nil {
		return nil
	}
	return &Entry{Client: client, ClientID: id, Received: at, requestLength: unknown, replyLength: unknown}
}

// Request takes down what was asked for; only the first call counts. version is
// what the client speaks.
func (e *Entry) Request(h *exchange.RequestHead, version exchange.Version) {
	if e == nil || e.asked {
		return
	}
	e.asked = true
	e.method, e.uri, e.version = string(h.Method), string(appendURI(nil, h)), version
	e.trace = field(&h.Fields, "x-b3-traceid", "x-request-id", "x-amzn-trace-id")
	e.agent, e.host = field(&h.Fields, "user-agent"), field(&h.Fields, "host")
	e.requestLength = length(&h.Fields)
}

// Response takes down the head of the response, which came at the given time.
func (e *Entry) Response(h *exchange.ResponseHead, at time.Time) {
	if e == nil {
		return
	}
	e.Total, e.Status, e.replyLength = at.Sub(e.Received), h.Status, length(&h.Fields)
}

// field is the first of the fields that is there.
func field(f *exchange.Fields, names ...string) string {
	for _, n := range names {
		if v := f.Get(n); v != nil {
			return string(v)
		}
	}
	return ""
}

// length is what content-length says.
func length(f *exchange.Fields) int64 {
	n, err := strconv.ParseInt(string(f.Get("content-length")), 10, 64)
	if err != nil || n < 0 {
		return unknown
	}
	return n
}

// Write writes the entry's line.
func (l *Log) Write(e *Entry) {
	if l == nil || e == nil {
		return
	}
	if e.Status == 0 {
		// There was no head that any of it could have been waited for.
		e.Total = e.Duration
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.format {
	case JSON:
		l.buf = l.appendJSON(l.buf[:0], e)
	case ApacheExtended:
		l.buf = l.appendExtended(e.appendApache(l.buf[:0]), e)
	default:
		l.buf = e.appendApache(l.buf[:0])
	}
	l.buf = append(l.buf, '\n')
	// There is nowhere to report that the report could not be written.
	_, _ = l.out.Write(l.buf)
}

const timestamp = "2006-01-02T15:04:05.000000000Z"

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// appendURI appends the request's target as it was asked for.
func appendURI(b []byte, r *exchange.RequestHead) []byte {
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

func (e *Entry) appendApache(b []byte) []byte {
	b = append(b, e.Client.String()...)
	b = append(append(append(b, ' '), orDash(e.ClientID)...), " - ["...)
	b = e.Received.UTC().AppendFormat(b, timestamp)
	b = append(b, `] "`...)
	b = append(append(b, e.method...), ' ')
	b = append(append(b, e.uri...), ' ')
	b = append(append(b, e.version.String()...), `" `...)
	return strconv.AppendInt(b, int64(e.Status), 10)
}

// size is the length of a body: what the head said, if the body was as long as
// that or was only told of, as with HEAD; else what went by.
func (e *Entry) size(told int64, seen uint64) string {
	switch {
	case told != unknown && (seen == 0 || uint64(told) == seen):
		return strconv.FormatInt(told, 10)
	case seen > 0:
		return strconv.FormatUint(seen, 10)
	}
	return ""
}

func (e *Entry) server() string {
	if !e.Server.IsValid() {
		return ""
	}
	return e.Server.String()
}

func (l *Log) direction() string {
	if l.outbound {
		return "outbound"
	}
	return "inbound"
}

// appendExtended appends direction, sizes, the time until all was over in
// microseconds, server, grpc-status and error.
func (l *Log) appendExtended(b []byte, e *Entry) []byte {
	for _, s := range []string{
		l.direction(), e.size(e.requestLength, e.RequestBytes), e.size(e.replyLength, e.ResponseBytes),
		strconv.FormatInt(e.Duration.Microseconds(), 10), e.server(), e.GRPC,
	} {
		b = append(append(b, ' '), orDash(s)...)
	}
	return strconv.AppendQuote(append(b, ' '), orDash(e.Error))
}

// line is an entry as JSON: the keys of the proxy chapter, then ours.
type line struct {
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

	Direction string `json:"direction"`
	Server    string `json:"server.addr,omitempty"`
	ServerID  string `json:"server.id,omitempty"`
	Duration  string `json:"duration_ns"`
	GRPC      string `json:"grpc_status"`
	Error     string `json:"error"`
}

func (l *Log) appendJSON(b []byte, e *Entry) []byte {
	out, err := json.Marshal(line{
		Client: e.Client.String(), ID: orDash(e.ClientID), Timestamp: e.Received.UTC().Format(timestamp),
		Method: e.method, URI: e.uri, Version: e.version.String(), Trace: e.trace,
		Request: e.size(e.requestLength, e.RequestBytes), Status: e.Status, Response: e.size(e.replyLength, e.ResponseBytes),
		Total:      strconv.FormatInt(e.Total.Nanoseconds(), 10),
		Processing: strconv.FormatInt((e.Total - e.Elsewhere).Nanoseconds(), 10),
		Agent:      e.agent, Host: e.host,
		Direction: l.direction(), Server: e.server(), ServerID: e.ServerID,
		Duration: strconv.FormatInt(e.Duration.Nanoseconds(), 10), GRPC: e.GRPC, Error: e.Error,
	})
	if err != nil {
		return b
	}
	return append(b, out...)
}
