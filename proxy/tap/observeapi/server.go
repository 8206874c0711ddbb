// Package observeapi is the tap API: it lets one permitted client observe the
// proxy's requests over gRPC (proxy API chapter, sections 2.11 and 9.1).
//
//	s := observeapi.New(observeapi.Config{Hub: hub, TLS: store, Client: id, ...})
//	go accept.Loop(listener, accept.Options{Handle: s.Accept, ...})
//
// gRPC is spoken over the proxy's own HTTP/2, for one method does not need a
// server library. A Server is safe for concurrent use.
package observeapi

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	tappb "github.com/linkerd-go/linkerd-go/api/lean/tap"
	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/sniff"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
)

// Config is what a server is made of.
type Config struct {
	Hub *tap.Hub
	// TLS has the handshake's configuration; *meshtls.Store is one.
	TLS interface {
		ServerName() string
		ServerConfig() *tls.Config
	}
	// Client is who may observe, besides clients on this machine.
	Client model.Identity
	Log    *slog.Logger
}

// Server answers observers.
type Server struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
}

// New makes a server. Close ends its observations.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends all observations, so that their connections can be drained.
func (s *Server) Close() { s.cancel() }

// limit is how long detection and handshake may take.
const limit = time.Second

// Accept serves a connection until it ends.
func (s *Server) Accept(raw net.Conn, h *drain.Handle) {
	defer raw.Close()
	c := &client{s: s}
	conn := raw
	if netx.AddrPort(raw.RemoteAddr()).Addr().IsLoopback() {
		c.permitted = true
	} else {
		var err error
		if conn, err = s.handshake(raw, c); err != nil {
			s.cfg.Log.Debug("Connection closed", "error", err)
			return
		}
	}
	server := h2.NewServer(conn, exchange.HandlerFunc(c.serve), nil, h2.Options{})
	h.OnStart(func() {
		s.Close()
		server.Drain()
	})
	if err := server.Serve(); err != nil {
		s.cfg.Log.Debug("Connection closed", "error", err)
	}
}

// client is a connection of somebody who wants to observe.
type client struct {
	s         *Server
	permitted bool
	// why says why not.
	why string
}

// handshake finds out who the client is.
func (s *Server) handshake(raw net.Conn, c *client) (net.Conn, error) {
	conn, hello, sni, err := sniff.TLS(raw, limit)
	if err != nil {
		return conn, err
	}
	if hello != detect.TLS || sni != s.cfg.TLS.ServerName() {
		c.why = string(series.NoTLSFromRemote)
		return conn, nil
	}
	t := tls.Server(conn, s.cfg.TLS.ServerConfig())
	ctx, cancel := context.WithTimeout(s.ctx, 10*limit)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return conn, err
	}
	state := t.ConnectionState()
	id, others := meshtls.PeerIdentities(&state)
	c.permitted = !id.IsZero() && (id == s.cfg.Client || slices.Contains(others, s.cfg.Client))
	c.why = "Unauthorized client"
	return t, nil
}

// The gRPC codes that are answered.
const (
	codeOK              = 0
	codeInvalidArgument = 3
	codeUnimplemented   = 12
	codeInternal        = 13
	codeUnauthenticated = 16
)

// failure is an error with a gRPC code.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

const observeMethod = "/io.linkerd.proxy.tap.Tap/Observe"

// serve answers one call.
func (c *client) serve(x *exchange.Exchange) {
	err := c.observe(x)
	if err == nil {
		return
	}
	f := &failure{code: codeInternal, text: err.Error()}
	errors.As(err, &f)
	head := &exchange.ResponseHead{Version: exchange.HTTP2, Status: 200, ContentLength: 0}
	head.Add("content-type", "application/grpc")
	head.Add("grpc-status", strconv.Itoa(f.code))
	head.Add("grpc-message", f.text)
	_ = x.Respond(head, exchange.Empty)
}

// observe is serve; the error is answered.
func (c *client) observe(x *exchange.Exchange) error {
	switch {
	case !c.permitted:
		return &failure{codeUnauthenticated, c.why}
	case string(x.Request.Path) != observeMethod:
		return &failure{codeUnimplemented, "unknown method"}
	}
	req := new(tappb.ObserveRequest)
	if err := readMessage(x.Body, req.ParseWire); err != nil {
		return err
	}
	if req.GetLimit() == 0 {
		return &failure{codeInvalidArgument, "limit must be positive"}
	}
	match, err := compile(req.GetMatch())
	if err != nil {
		return &failure{codeInvalidArgument, err.Error()}
	}
	t := c.s.cfg.Hub.Observe(tap.Options{Limit: req.GetLimit(), Match: match, Headers: req.GetExtract().GetHttp().GetHeaders() != nil})
	defer t.Close()
	body := &stream{tap: t, gone: make(chan struct{}), stop: c.s.ctx.Done()}
	if err := x.Bind(body.Close); err != nil {
		return err
	}
	defer x.Bind(nil)
	head := &exchange.ResponseHead{Version: exchange.HTTP2, Status: 200, ContentLength: -1}
	head.Add("content-type", "application/grpc")
	_ = x.Respond(head, body)
	if n := t.Lost(); n > 0 {
		c.s.cfg.Log.Warn("Tap was too slow for some events", "events", n)
	}
	return nil
}

// lostTrailer tells an observer how many events it was too slow for. The API has
// no message for it; observers that do not know it see nothing.
const lostTrailer = "l5d-tap-lost-events"

// maxRequest bounds a request, in bytes.
const maxRequest = 1 << 20

// readMessage reads the one message of a request.
func readMessage(b exchange.Body, parse func([]byte) error) error {
	var all []byte
	for {
		f, err := b.Next()
		if err != nil {
			return err
		}
		all = append(all, f.Data...)
		if len(all) > maxRequest {
			return &failure{codeInvalidArgument, "request is too long"}
		}
		if len(all) >= 5 {
			size := binary.BigEndian.Uint32(all[1:])
			switch {
			case all[0] != 0:
				return &failure{codeUnimplemented, "compression is not supported"}
			case size > maxRequest:
				return &failure{codeInvalidArgument, "request is too long"}
			case uint32(len(all)-5) >= size:
				if err := parse(all[5 : 5+size]); err != nil {
					return &failure{codeInternal, "malformed request"}
				}
				return nil
			}
		}
		if f.End {
			return &failure{codeInvalidArgument, "request has no message"}
		}
	}
}

// stream is the body of events.
type stream struct {
	tap  *tap.Tap
	gone chan struct{}
	once sync.Once
	stop <-chan struct{}
	buf  []byte
	over bool
}

var _ exchange.Body = (*stream)(nil)

// Next waits for an event, or for the end of the observation.
func (s *stream) Next() (exchange.Frame, error) {
	// Events that wait come before the end.
	select {
	case e := <-s.tap.Events():
		return s.frame(e)
	default:
	}
	select {
	case e := <-s.tap.Events():
		return s.frame(e)
	case <-s.tap.Done():
		select {
		case e := <-s.tap.Events():
			return s.frame(e)
		default:
		}
	case <-s.stop:
	case <-s.gone:
		return exchange.Frame{}, exchange.ErrClientGone
	}
	s.over = true
	trailers := &exchange.Fields{}
	trailers.Add("grpc-status", strconv.Itoa(codeOK))
	if n := s.tap.Lost(); n > 0 {
		trailers.Add(lostTrailer, strconv.FormatUint(n, 10))
	}
	return exchange.Frame{End: true, Trailers: trailers}, nil
}

// frame is an event as a gRPC message.
func (s *stream) frame(e tap.Event) (exchange.Frame, error) {
	s.buf = append(s.buf[:0], 0, 0, 0, 0, 0)
	s.buf = encode(s.tap.Base, &e).AppendWire(s.buf)
	binary.BigEndian.PutUint32(s.buf[1:], uint32(len(s.buf)-5))
	return exchange.Frame{Data: s.buf}, nil
}

func (s *stream) Ready() bool { return len(s.tap.Events()) > 0 }
func (s *stream) Ended() bool { return s.over }

// Close ends the observation.
func (s *stream) Close(error) { s.once.Do(func() { close(s.gone) }) }
