// Package admin answers on the admin port: probes, metrics, log level,
// shutdown (proxy chapter, section 20).
//
//	h := admin.New(admin.Options{Ready: ..., Metrics: registry.AppendText, Logs: l, ...})
//
// It is an exchange.Handler: which connections reach it, and whom the port's
// policy lets through, is the business of who serves it. It is safe for
// concurrent use.
package admin

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/logfilter"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
)

// Options are what the handler tells and does.
type Options struct {
	// Ready reports whether the proxy serves.
	Ready func() bool
	// Metrics appends the exposition to its argument.
	Metrics func([]byte) []byte
	// Logs is the process's log.
	Logs *logs.Log
	// Environ lists the environment as NAME=value.
	Environ func() []string
	// Shutdown begins the drain; nil means that the endpoint is disabled.
	Shutdown func()
	// Config is the effective configuration as JSON, secrets left out, shown
	// at /config.json.
	Config func() ([]byte, error)
	// Profile enables /debug/pprof/.
	Profile bool
}

// Peer is what the handler has to know of a connection.
type Peer interface {
	// Client is the peer's address.
	Client() netip.AddrPort
}

// Trusted is what the handler asks a connection that can tell.
type Trusted interface {
	// Trusted reports whether a policy let the request in for its client's
	// identity, as opposed to where it comes from.
	Trusted() bool
}

// Handler answers requests.
type Handler struct {
	o        Options
	shutdown sync.Once
	// profiling admits one CPU profile at a time, for there is one profiler.
	profiling sync.Mutex
}

var _ exchange.Handler = (*Handler)(nil)

// New makes a handler.
func New(o Options) *Handler { return &Handler{o: o} }

// reply is a response that is held in memory.
type reply struct {
	status int
	kind   string
	body   []byte
	allow  []string
}

const (
	plain    = "text/plain"
	jsonKind = "application/json"
)

// Serve answers one request.
func (h *Handler) Serve(x *exchange.Exchange) {
	path, query, _ := strings.Cut(string(x.Request.Path), "?")
	switch path {
	case "/live":
		send(x, reply{status: 200, kind: plain, body: []byte("live\n")})
	case "/ready":
		if h.o.Ready() {
			send(x, reply{status: 200, kind: plain, body: []byte("ready\n")})
		} else {
			send(x, reply{status: 503, body: []byte("not ready\n")})
		}
	case "/metrics":
		h.metrics(x)
	case "/env.json":
		if private(x) {
			send(x, h.env(x, query))
		}
	case "/config.json":
		if private(x) {
			send(x, h.config(x))
		}
	case "/proxy-log-level":
		if local(x) {
			send(x, h.level(x))
		}
	case "/logs.json":
		if local(x) {
			h.stream(x, query)
		}
	case "/shutdown":
		if local(x) {
			h.stop(x)
		}
	case "/debug/pprof/profile.pb.gz", "/debug/pprof/heap.pb.gz", "/debug/pprof/goroutine.pb.gz":
		if !h.o.Profile {
			send(x, reply{status: 404})
		} else if local(x) {
			h.profile(x, path, query)
		}
	default:
		send(x, reply{status: 404})
	}
}

// private lets through clients on this machine, and those that a policy names,
// and answers others. Upstream answers whoever may connect.
func private(x *exchange.Exchange) bool {
	if t, ok := x.Conn.(Trusted); ok && t.Trusted() {
		return true
	}
	return local(x)
}

// local lets through clients on this machine and answers others.
func local(x *exchange.Exchange) bool {
	if p, ok := x.Conn.(Peer); ok && p.Client().Addr().Unmap().IsLoopback() {
		return true
	}
	send(x, reply{status: 403, kind: plain, body: []byte("Requests are only permitted from localhost.")})
	return false
}

func send(x *exchange.Exchange, r reply) {
	head := &exchange.ResponseHead{Version: x.Request.Version, Status: r.status, ContentLength: int64(len(r.body))}
	if r.kind != "" {
		head.Add("content-type", r.kind)
	}
	for _, a := range r.allow {
		head.Add("allow", a)
	}
	if r.status != 204 {
		head.Add("content-length", strconv.Itoa(len(r.body)))
	}
	if string(x.Request.Method) == "HEAD" || len(r.body) == 0 {
		_ = x.Respond(head, exchange.Empty)
		return
	}
	_ = x.Respond(head, &exchange.Bytes{Data: r.body})
}

// fail is an error as JSON.
func fail(status int, text string) reply {
	body, _ := json.Marshal(struct {
		Error  string `json:"error"`
		Status int    `json:"status"`
	}{text, status})
	return reply{status: status, kind: jsonKind, body: body}
}

func (h *Handler) metrics(x *exchange.Exchange) {
	text := h.o.Metrics(nil)
	head := &exchange.ResponseHead{Version: x.Request.Version, Status: 200}
	head.Add("content-type", plain)
	if acceptsGzip(x.Request.Get("accept-encoding")) {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		_, _ = w.Write(text)
		_ = w.Close()
		text = b.Bytes()
		head.Add("content-encoding", "gzip")
	}
	head.ContentLength = int64(len(text))
	head.Add("content-length", strconv.Itoa(len(text)))
	if string(x.Request.Method) == "HEAD" {
		_ = x.Respond(head, exchange.Empty)
		return
	}
	_ = x.Respond(head, &exchange.Bytes{Data: text})
}

func acceptsGzip(v []byte) bool { return bytes.Contains(bytes.ToLower(v), []byte("gzip")) }

// redacted is shown instead of values that may be secret.
const redacted = "REDACTED"

// shown reports whether a variable's value is known to be no secret: it is the
// proxy's own, or one that Kubernetes or the runtime sets. Anything else may have
// come out of a Secret.
func shown(name string) bool {
	switch name {
	case "HOSTNAME", "PATH", "HOME", "TERM", "OTEL_RESOURCE_ATTRIBUTES", "GOMEMLIMIT", "GOMAXPROCS", "GOGC", "GODEBUG", "GOTRACEBACK",
		"SSL_CERT_DIR", "SSL_CERT_FILE":
		return true
	}
	for _, prefix := range []string{"LINKERD2_PROXY_", "_pod_", "_l5d_", "KUBERNETES_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	// The addresses of Services, as the kubelet tells them.
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.HasSuffix(name, "_SERVICE_PORT")
}

// env gives the environment, or the variables that the query names.
func (h *Handler) env(x *exchange.Exchange, query string) reply {
	if string(x.Request.Method) != "GET" {
		return reply{status: 405, allow: []string{"GET"}}
	}
	all := map[string]*string{}
	for _, kv := range h.o.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		if v != "" && !shown(k) {
			v = redacted
		}
		all[k] = &v
	}
	if query != "" {
		if strings.Contains(query, "=") {
			return fail(400, "env.json query parameters may not contain `=`")
		}
		some := map[string]*string{}
		for name := range strings.SplitSeq(query, "&") {
			some[name] = all[name]
		}
		all = some
	}
	body, err := json.Marshal(all)
	if err != nil {
		return fail(500, err.Error())
	}
	return reply{status: 200, kind: jsonKind, body: body}
}

func (h *Handler) config(x *exchange.Exchange) reply {
	if h.o.Config == nil {
		return reply{status: 404}
	}
	if string(x.Request.Method) != "GET" {
		return reply{status: 405, allow: []string{"GET"}}
	}
	body, err := h.o.Config()
	if err != nil {
		return fail(500, err.Error())
	}
	return reply{status: 200, kind: jsonKind, body: body}
}

// level tells or changes the log filter.
func (h *Handler) level(x *exchange.Exchange) reply {
	if h.o.Logs == nil {
		return reply{status: 404}
	}
	switch string(x.Request.Method) {
	case "GET":
		return reply{status: 200, body: []byte(h.o.Logs.Filter().String())}
	case "PUT":
		text, err := readAll(x.Body)
		if err == nil {
			err = h.o.Logs.SetFilter(text)
		}
		if err != nil {
			return reply{status: 400, body: []byte(err.Error())}
		}
		return reply{status: 204}
	}
	return reply{status: 405, allow: []string{"GET", "PUT"}}
}

// maxBody bounds what is read of a request's body, in bytes.
const maxBody = 64 << 10

var errBody = errors.New("request body is too long")

func readAll(b exchange.Body) (string, error) {
	var all []byte
	for {
		f, err := b.Next()
		if err != nil {
			return "", err
		}
		if len(all)+len(f.Data) > maxBody {
			return "", errBody
		}
		all = append(all, f.Data...)
		if f.End {
			return string(all), nil
		}
	}
}

// stream sends log events for as long as the client listens.
func (h *Handler) stream(x *exchange.Exchange, query string) {
	if h.o.Logs == nil {
		send(x, reply{status: 404})
		return
	}
	filter := query
	switch string(x.Request.Method) {
	case "GET":
	case "QUERY":
		text, err := readAll(x.Body)
		if err != nil {
			send(x, fail(400, err.Error()))
			return
		}
		filter = text
	default:
		send(x, reply{status: 405, allow: []string{"GET", "QUERY"}})
		return
	}
	if a := x.Request.Get("accept"); a != nil && !bytes.Contains(a, []byte("application/json")) && !bytes.Contains(a, []byte("*/*")) &&
		!bytes.Contains(a, []byte("application/*")) {
		send(x, reply{status: 406, kind: plain, body: []byte(jsonKind)})
		return
	}
	if filter == "" {
		send(x, fail(400, "missing log filter"))
		return
	}
	f, err := logfilter.Parse(filter)
	if err != nil {
		send(x, fail(400, err.Error()))
		return
	}
	body := &events{sub: h.o.Logs.Subscribe(f), closed: make(chan struct{})}
	defer body.sub.Close()
	_ = x.Bind(body.Close)
	defer x.Bind(nil)
	head := &exchange.ResponseHead{Version: x.Request.Version, Status: 200, ContentLength: -1}
	head.Add("content-type", jsonKind)
	_ = x.Respond(head, body)
}

// events is a body that never ends by itself.
type events struct {
	sub    *logs.Subscription
	closed chan struct{}
	once   sync.Once
}

func (e *events) Next() (exchange.Frame, error) {
	if n := e.sub.Dropped(); n > 0 {
		return exchange.Frame{Data: []byte(`{"dropped_events":` + strconv.FormatUint(n, 10) + "}\n")}, nil
	}
	select {
	case line := <-e.sub.Events():
		return exchange.Frame{Data: line}, nil
	case <-e.closed:
		return exchange.Frame{}, exchange.ErrClientGone
	}
}

func (e *events) Ready() bool { return len(e.sub.Events()) > 0 }
func (e *events) Ended() bool { return false }
func (e *events) Close(error) { e.once.Do(func() { close(e.closed) }) }

// stop begins the shutdown after it was answered.
func (h *Handler) stop(x *exchange.Exchange) {
	switch {
	case string(x.Request.Method) != "POST":
		send(x, reply{status: 405, allow: []string{"POST"}})
	case h.o.Shutdown == nil:
		send(x, reply{status: 404, kind: plain, body: []byte("shutdown endpoint is not enabled\n")})
	default:
		send(x, reply{status: 200, kind: plain, body: []byte("shutdown\n")})
		h.shutdown.Do(h.o.Shutdown)
	}
}

// profile measures the process itself; seconds limits CPU profiles.
func (h *Handler) profile(x *exchange.Exchange, path, query string) {
	var b bytes.Buffer
	var err error
	switch path {
	case "/debug/pprof/heap.pb.gz":
		err = pprof.Lookup("heap").WriteTo(&b, 0)
	case "/debug/pprof/goroutine.pb.gz":
		err = pprof.Lookup("goroutine").WriteTo(&b, 0)
	default:
		err = h.cpu(x, &b, query)
	}
	if err != nil {
		send(x, fail(500, err.Error()))
		return
	}
	send(x, reply{status: 200, kind: "application/octet-stream", body: b.Bytes()})
}

func (h *Handler) cpu(x *exchange.Exchange, w io.Writer, query string) error {
	seconds := 30
	if v, ok := strings.CutPrefix(query, "seconds="); ok {
		if n, err := strconv.Atoi(v); err == nil && n > 0 {
			seconds = min(n, 300)
		}
	}
	if !h.profiling.TryLock() {
		return errors.New("a profile is being taken already")
	}
	defer h.profiling.Unlock()
	if err := pprof.StartCPUProfile(w); err != nil {
		return err
	}
	gone := make(chan struct{})
	var once sync.Once
	_ = x.Bind(func(error) { once.Do(func() { close(gone) }) })
	defer x.Bind(nil)
	t := time.NewTimer(time.Duration(seconds) * time.Second)
	defer t.Stop()
	select {
	case <-t.C:
	case <-gone:
	}
	pprof.StopCPUProfile()
	return nil
}
