package actor

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/linkerd-go/linkerd-go/sample/shoppb"
)

// defaultLimit bounds a call that hangs: longer than any limit of a proxy, on a
// machine that stands still for seconds at a time.
const defaultLimit = time.Minute

// client makes calls and holds conversations.
type client struct {
	mu    sync.Mutex
	held  map[string]conversation // by name; guarded by mu
	flows map[string]*flow        // by name; guarded by mu
}

func newClient() *client {
	return &client{held: map[string]conversation{}, flows: map[string]*flow{}}
}

// conversation is an exchange that can be gone on with. One goroutine at a
// time may use it.
type conversation interface {
	// say sends something and takes what comes back.
	say(ctx context.Context) Result
	close()
}

// call does all that is asked for, one after the other.
func (c *client) call(ctx context.Context, call Call) Answers {
	var out Answers
	var kept conversation
	defer func() {
		if kept != nil {
			kept.close()
		}
	}()
	for range max(call.Times, 1) {
		if kept == nil {
			kept = begin(call)
		}
		r := timed(ctx, call, kept)
		if r.Outcome == Reconnected {
			// Of no matter here: what was answered is.
			r.Outcome = r.Header[":status"]
		}
		if call.Times > 1 {
			r.Header, r.Seen = nil, nil
		}
		out.Results = append(out.Results, r)
		switch call.Protocol {
		case HTTP, HTTP2, GRPC:
		default:
			kept.close()
			kept = nil
		}
	}
	return out
}

func timed(ctx context.Context, call Call, c conversation) Result {
	limit := call.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	r := c.say(ctx)
	r.Took = time.Since(start)
	return r
}

// hold begins a conversation and keeps it under a name.
func (c *client) hold(ctx context.Context, name string, call Call) Result {
	conv := begin(call)
	r := timed(ctx, call, conv)
	c.mu.Lock()
	old := c.held[name]
	c.held[name] = conv
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
	return r
}

// say goes on with a conversation that is held.
func (c *client) say(ctx context.Context, name string) Result {
	c.mu.Lock()
	conv := c.held[name]
	c.mu.Unlock()
	if conv == nil {
		return Result{Outcome: Closed, Detail: "nothing is held under the name " + name}
	}
	return timed(ctx, Call{}, conv)
}

// release ends the conversations of the names that begin with prefix.
func (c *client) release(prefix string) {
	c.mu.Lock()
	var ended []conversation
	for name, conv := range c.held {
		if strings.HasPrefix(name, prefix) {
			ended = append(ended, conv)
			delete(c.held, name)
		}
	}
	c.mu.Unlock()
	for _, conv := range ended {
		conv.close()
	}
}

func (c *client) close() {
	c.release("")
	c.mu.Lock()
	var all []string
	for name := range c.flows {
		all = append(all, name)
	}
	c.mu.Unlock()
	for _, name := range all {
		c.flowed(name)
	}
}

// flow is a conversation that goes on by itself.
type flow struct {
	cancel  context.CancelFunc
	done    chan struct{}
	times   int      // to say something, or 0 for until it is ended
	results []Result // of all that was said; to be read when done
}

// flow begins one and keeps it under a name. It returns the key that its requests
// carry.
func (c *client) flow(name string, call Call) string {
	c.flowed(name)
	key := rand.Text()
	call.Header = maps.Clone(call.Header)
	if call.Header == nil {
		call.Header = map[string]string{}
	}
	call.Header[headerKey] = key
	ctx, cancel := context.WithCancel(context.Background())
	f := &flow{cancel: cancel, done: make(chan struct{}), times: call.Times}
	c.mu.Lock()
	c.flows[name] = f
	c.mu.Unlock()
	go f.run(ctx, call)
	return key
}

// run says something every few milliseconds. What is closed is begun anew.
func (f *flow) run(ctx context.Context, call Call) {
	defer close(f.done)
	conv := begin(call)
	defer func() { conv.close() }()
	for n := 0; ctx.Err() == nil && (f.times == 0 || n < f.times); n++ {
		// What is under way when the flow ends is waited for, not cut.
		r := timed(context.WithoutCancel(ctx), call, conv)
		r.Header, r.Seen = nil, nil
		f.results = append(f.results, r)
		switch r.Outcome {
		case Closed, Timeout, codes.Unavailable.String():
			conv.close()
			conv = begin(call)
		}
		sleep(ctx, 5*time.Millisecond)
	}
}

// flowed ends a flow, or waits for its end if it is to go so many times, and
// returns all of its results.
func (c *client) flowed(name string) Answers {
	c.mu.Lock()
	f := c.flows[name]
	delete(c.flows, name)
	c.mu.Unlock()
	if f == nil {
		return Answers{}
	}
	if f.times == 0 {
		f.cancel()
	}
	<-f.done
	f.cancel()
	return Answers{f.results}
}

// begin makes the conversation; nothing is sent before its first word.
func begin(call Call) conversation {
	switch call.Protocol {
	case HTTP, HTTP2:
		p := new(http.Protocols)
		p.SetHTTP1(call.Protocol == HTTP)
		p.SetUnencryptedHTTP2(call.Protocol == HTTP2)
		return &requests{call: call, transport: &http.Transport{Protocols: p, MaxConnsPerHost: 1, ExpectContinueTimeout: time.Second, DialContext: dialer(call)}}
	case GRPC, Stream:
		conn, err := grpc.NewClient("passthrough:///"+call.Target, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), authority(call),
			grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return dialer(call)(ctx, "tcp", to) }))
		if err != nil {
			return &failed{err}
		}
		if call.Protocol == GRPC {
			return &unary{call: call, conn: conn}
		}
		return &stream{call: call, conn: conn}
	case TCP, TLS, WebSocket:
		return &lines{call: call}
	}
	return &failed{fmt.Errorf("no protocol is called %q", call.Protocol)}
}

func authority(call Call) grpc.DialOption {
	if h := call.Header["Host"]; h != "" {
		return grpc.WithAuthority(h)
	}
	return grpc.EmptyDialOption{}
}

// failed is a conversation that could not begin.
type failed struct{ err error }

func (f *failed) say(context.Context) Result { return Result{Outcome: Closed, Detail: f.err.Error()} }
func (f *failed) close()                     {}

// broken is the result of an error on the way.
func broken(err error) Result {
	r := Result{Outcome: Closed, Detail: err.Error()}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		r.Outcome = Timeout
	}
	return r
}

// ask is the fields by which the server knows what to do to an attempt.
func ask(call Call) map[string]string {
	out := map[string]string{}
	for k, v := range call.Header {
		if k != "Host" {
			out[k] = v
		}
	}
	if call.Fail == "" && call.Delay == 0 {
		return out
	}
	if out[headerKey] == "" {
		out[headerKey] = rand.Text()
	}
	if call.Fail != "" {
		out[headerFail], out[headerFailTimes] = call.Fail, strconv.Itoa(call.FailTimes)
	}
	if call.Delay != 0 {
		out[headerDelay], out[headerDelayTimes] = call.Delay.String(), strconv.Itoa(call.DelayTimes)
	}
	return out
}

// requests are HTTP requests on one connection.
type requests struct {
	call      Call
	transport *http.Transport
	begun     bool
	n         int // of the request
}

func (q *requests) say(ctx context.Context) Result {
	reused := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	method := q.call.Method
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	if method == http.MethodPost || method == http.MethodPut || q.call.Body > 0 {
		body = strings.NewReader("something")
		if q.call.Body > 0 {
			body = io.LimitReader(zeros{}, q.call.Body)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+q.call.Target+q.call.Path, body)
	if err != nil {
		return Result{Outcome: Closed, Detail: err.Error()}
	}
	for k, v := range ask(q.call) {
		req.Header.Set(k, v)
	}
	if h := q.call.Header["Host"]; h != "" {
		req.Host = h
	}
	if q.call.Numbered != "" {
		if q.n++; q.call.NumberedTo > 0 && q.n > q.call.NumberedTo {
			q.n = 1
		}
		req.Header.Set(q.call.Numbered, strconv.Itoa(q.n))
	}
	resp, err := q.transport.RoundTrip(req)
	if err != nil {
		return broken(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	r := Result{Outcome: strconv.Itoa(resp.StatusCode), Header: map[string]string{":status": strconv.Itoa(resp.StatusCode)}}
	for k, v := range resp.Header {
		r.Header[strings.ToLower(k)] = strings.Join(v, ", ")
	}
	if err != nil {
		b := broken(err)
		b.Header = r.Header
		return b
	}
	var a answer
	if json.Unmarshal(raw, &a) == nil {
		r.By, r.Seen = a.By, a.Seen
	}
	if q.begun && !reused {
		r.Outcome, r.Detail = Reconnected, "the connection was lost; on a new one: "+r.Outcome
	}
	q.begun = true
	return r
}

// zeros has any number of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (q *requests) close() { q.transport.CloseIdleConnections() }

// outgoing is the context with the call's metadata.
func outgoing(ctx context.Context, call Call) context.Context {
	for k, v := range ask(call) {
		ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(k), v)
	}
	return ctx
}

// told is a gRPC call's result.
func told(err error, md ...metadata.MD) Result {
	r := Result{Outcome: status.Code(err).String(), Header: map[string]string{}}
	for _, m := range md {
		for k, v := range m {
			r.Header[k] = strings.Join(v, ", ")
		}
	}
	if err != nil {
		r.Detail = status.Convert(err).Message()
		r.Header["grpc-message"] = r.Detail
	}
	return r
}

// unary are gRPC calls on one connection.
type unary struct {
	call Call
	conn *grpc.ClientConn
}

func (u *unary) say(ctx context.Context) Result {
	var head, trail metadata.MD
	opts := []grpc.CallOption{grpc.Header(&head), grpc.Trailer(&trail)}
	ctx = outgoing(ctx, u.call)
	if u.call.Path == "/shop.v1.Checkout/Place" {
		got, err := shoppb.NewCheckoutClient(u.conn).Place(ctx, &shoppb.PlaceRequest{}, opts...)
		r := told(err, head, trail)
		r.By = got.GetServedBy()
		return r
	}
	got, err := shoppb.NewCatalogClient(u.conn).List(ctx, &shoppb.ListRequest{}, opts...)
	r := told(err, head, trail)
	for _, p := range got.GetProducts() {
		r.By = p.GetServedBy()
		json.Unmarshal([]byte(p.GetName()), &r.Seen)
	}
	return r
}

func (u *unary) close() { u.conn.Close() }

// stream is one bidirectional stream.
type stream struct {
	call   Call
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[shoppb.PlaceRequest, shoppb.Receipt]
	cancel context.CancelFunc
	ended  error
}

func (s *stream) say(ctx context.Context) Result {
	if s.ended != nil {
		return told(s.ended)
	}
	if s.stream == nil {
		// The stream outlives the order that began it.
		all, cancel := context.WithCancel(context.WithoutCancel(ctx))
		st, err := shoppb.NewCheckoutClient(s.conn).Converse(outgoing(all, s.call))
		if err != nil {
			cancel()
			s.ended = err
			return told(err)
		}
		s.stream, s.cancel = st, cancel
	}
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	// Why it failed is what Recv says.
	s.stream.Send(&shoppb.PlaceRequest{})
	got, err := s.stream.Recv()
	if err != nil {
		s.ended = err
		if errors.Is(err, io.EOF) {
			s.ended = status.Error(codes.Unknown, "ended by the server")
		}
		return told(s.ended, s.stream.Trailer())
	}
	r := told(nil)
	r.By = got.GetServedBy()
	return r
}

func (s *stream) close() {
	if s.cancel != nil {
		s.cancel()
	}
	s.conn.Close()
}

// lines is one connection that carries lines.
type lines struct {
	call Call
	conn net.Conn
	in   *bufio.Reader
	n    int
}

func (l *lines) say(ctx context.Context) Result {
	if l.conn == nil {
		if err := l.dial(ctx); err != nil {
			var refused *websocket.DialError
			if errors.As(err, &refused) {
				return Result{Outcome: Closed, Detail: err.Error()}
			}
			return broken(err)
		}
		l.in = bufio.NewReader(l.conn)
	}
	deadline, _ := ctx.Deadline()
	l.conn.SetDeadline(deadline)
	l.n++
	if _, err := fmt.Fprintf(l.conn, "this is line %d\n", l.n); err != nil {
		return broken(err)
	}
	got, err := l.in.ReadString('\n')
	if err != nil {
		return broken(err)
	}
	by, rest, _ := strings.Cut(strings.TrimSuffix(got, "\n"), " ")
	if want := fmt.Sprintf("this is line %d", l.n); rest != want {
		return Result{Outcome: Closed, Detail: fmt.Sprintf("the answer was %q", got)}
	}
	return Result{Outcome: Open, By: by}
}

func (l *lines) dial(ctx context.Context) error {
	conn, err := dialer(l.call)(ctx, "tcp", l.call.Target)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	switch l.call.Protocol {
	case TLS:
		t := tls.Client(conn, &tls.Config{ServerName: l.call.ServerName, InsecureSkipVerify: true})
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			return err
		}
		l.conn = t
	case WebSocket:
		conf, err := websocket.NewConfig("ws://"+l.call.Target+l.call.Path, "http://"+l.call.Target)
		if err != nil {
			conn.Close()
			return err
		}
		for k, v := range ask(l.call) {
			conf.Header.Set(k, v)
		}
		ws, err := websocket.NewClient(conf, conn)
		if err != nil {
			conn.Close()
			return err
		}
		l.conn = ws
	default:
		l.conn = conn
	}
	return nil
}

func (l *lines) close() {
	if l.conn != nil {
		l.conn.Close()
	}
}
