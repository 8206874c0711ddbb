package refusal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// TestResponses renders every kind of refusal in every form and compares with
// testdata/responses.txt; set UPDATE to rewrite it.
func TestResponses(t *testing.T) {
	var b strings.Builder
	for _, c := range []struct {
		name string
		r    *Refusal
	}{
		{"forbidden", Forbidden("unauthorized request on route")},
		{"not found", NotFound("no route found for request")},
		{"redirect", Redirect(301, "http://example.com/")},
		{"rate limited", RateLimited("total rate limit exceeded: 5rps", 250*time.Millisecond)},
		{"internal", Internal(Unexpected, nil)},
		{"bad gateway", BadGateway("endpoint 10.0.0.1:80: Connection refused (os error 111)", nil)},
		{"unavailable", Unavailable("service unavailable", nil)},
		{"gateway timeout", GatewayTimeout("service in fail-fast", nil)},
		{"timed out", TimedOut("timed out waiting for response headers: request timeout: 1s", nil)},
		{"loop", Loop("gateway loop detected")},
		{"injected http", InjectedHTTP(418, "teapot")},
		{"injected grpc", InjectedGRPC(9, "no 100%")},
		{"text with a line break", Forbidden("a\r\nb")},
	} {
		for _, form := range []struct {
			name string
			v    exchange.Version
			grpc bool
			o    Options
		}{
			{"http/1.1", exchange.HTTP11, false, Options{Informational: true}},
			{"http/1.1 quiet", exchange.HTTP11, false, Options{}},
			{"http/1.1 carried", exchange.HTTP11, false, Options{Informational: true, OrigProto: true}},
			{"http/2", exchange.HTTP2, false, Options{Informational: true}},
			{"grpc", exchange.HTTP2, true, Options{Informational: true}},
			{"grpc quiet", exchange.HTTP2, true, Options{}},
		} {
			head := exchange.ResponseHead{Version: form.v}
			Fill(&head, form.grpc, c.r, form.o)
			fmt.Fprintf(&b, "%s, %s: %d", c.name, form.name, head.Status)
			for _, f := range head.List {
				fmt.Fprintf(&b, " | %s: %s", f.Name, f.Value)
			}
			b.WriteByte('\n')
		}
	}
	golden.File(t, "testdata/responses.txt", b.String())
}

// broken is a body that fails after its frames.
type broken struct {
	frames []string
	err    error
	closed bool
}

func (b *broken) Next() (exchange.Frame, error) {
	if len(b.frames) == 0 {
		return exchange.Frame{}, b.err
	}
	f := b.frames[0]
	b.frames = b.frames[1:]
	return exchange.Frame{Data: []byte(f)}, nil
}
func (b *broken) Ready() bool { return true }
func (b *broken) Ended() bool { return false }
func (b *broken) Close(error) { b.closed = true }

func TestTail(t *testing.T) {
	fails := errors.New("timed out processing response stream: idle timeout: 1s")
	tail := &Tail{
		Body: &broken{frames: []string{"one"}, err: fails}, Informational: true,
		Judge: JudgeFunc(func(err error) *Refusal { return TimedOut(err.Error(), err) }),
	}
	if f, err := tail.Next(); err != nil || string(f.Data) != "one" || tail.Ended() {
		t.Fatalf("got %q, %v", f.Data, err)
	}
	f, err := tail.Next()
	if err != nil || !f.End || string(f.Trailers.Get("grpc-status")) != "4" || string(f.Trailers.Get("grpc-message")) != fails.Error() {
		t.Fatalf("got %+v, %v", f, err)
	}
	if !tail.Ended() {
		t.Error("not ended after its trailers")
	}
	reset := &exchange.ResetError{Code: exchange.CodeCancel, Remote: true}
	tail = &Tail{Body: &broken{err: reset}, Judge: JudgeFunc(func(error) *Refusal { return nil })}
	if _, err := tail.Next(); err != reset {
		t.Errorf("got %v", err)
	}
}
