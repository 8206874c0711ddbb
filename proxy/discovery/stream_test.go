package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// script is what a controller does on one stream: "fail CODE" at open, then
// items "1s msg", "1s eof", "1s CODE"; a stream that runs out stays silent.
type script struct {
	ctx   context.Context
	steps []string
}

func (s *script) Recv() (*string, error) {
	if len(s.steps) == 0 {
		<-s.ctx.Done()
		return nil, s.ctx.Err()
	}
	wait, what, _ := strings.Cut(s.steps[0], " ")
	s.steps = s.steps[1:]
	d, err := time.ParseDuration(wait)
	if err != nil {
		panic(err)
	}
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
	switch what {
	case "eof":
		return nil, io.EOF
	case "msg":
		return &what, nil
	}
	return nil, code(what)
}

func (s *script) Close() {}

func code(name string) error {
	for c := rpc.OK; c <= rpc.Unauthenticated; c++ {
		if c.String() == name {
			return rpc.Errorf(c, "scripted")
		}
	}
	panic(name)
}

// TestWatch plays streams in virtual time and writes down what the client does
// and when.
func TestWatch(t *testing.T) {
	limits := Limits{Initial: 3 * time.Second, Idle: 10 * time.Second, Lifetime: time.Minute}
	for _, c := range []struct {
		name    string
		limits  Limits
		streams []string // steps separated by commas
		until   time.Duration
		want    string
	}{
		{"stays open", Limits{}, []string{"1s msg,1s msg"}, time.Hour, "0s open; 1s msg; 2s msg"},
		{"initial: nothing in time, then with growing backoff", limits, []string{"", "", ""}, 9500 * time.Millisecond,
			"0s open; 3s end DeadlineExceeded; 3.1s open; 6.1s end DeadlineExceeded; 6.3s open; 9.3s end DeadlineExceeded"},
		{"idle counts as initial if that is not set", Limits{Idle: 10 * time.Second}, []string{""}, 10050 * time.Millisecond, "0s open; 10s end DeadlineExceeded"},
		{"idle: quietly renewed at once", limits, []string{"1s msg,9s msg", "1s msg"}, 25 * time.Second,
			"0s open; 1s msg; 10s msg; 20s end OK; 20s open; 21s msg"},
		{"lifetime", limits, []string{"1s msg,9s msg,9s msg,9s msg,9s msg,9s msg,9s msg,9s msg", "1s msg"}, 62 * time.Second,
			"0s open; 1s msg; 10s msg; 19s msg; 28s msg; 37s msg; 46s msg; 55s msg; 1m0s end OK; 1m0s open; 1m1s msg"},
		{"an end is renewed at once, its failure is not", Limits{}, []string{"1s msg,1s eof", "fail Unavailable", "fail Unavailable", "1s msg,1s Internal", "1s msg"}, 6 * time.Second,
			"0s open; 1s msg; 2s end OK; 2s open; 2s end Unavailable; 2.1s open; 2.1s end Unavailable; 2.3s open; 3.3s msg; 4.3s end Internal; 4.3s open; 5.3s msg"},
		{"streams that end at once are not renewed at once", Limits{}, []string{"0s msg,0s eof", "0s msg,0s eof", ""}, time.Second,
			"0s open; 0s msg; 0s end OK; 100ms open; 100ms msg; 100ms end OK; 300ms open"},
		{"backoff grows up to its limit", Limits{}, []string{"fail Unavailable", "fail Unavailable", "fail Unavailable", "fail Unavailable", "fail Unavailable", ""}, 3 * time.Second,
			"0s open; 0s end Unavailable; 100ms open; 100ms end Unavailable; 300ms open; 300ms end Unavailable; 700ms open; 700ms end Unavailable; 1.2s open; 1.2s end Unavailable; 1.7s open"},
		{"rejected for good", Limits{}, []string{"1s msg,1s InvalidArgument"}, time.Minute, "0s open; 1s msg; 2s end InvalidArgument; 2s stop InvalidArgument"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var log []string
				say := func(format string, a ...any) {
					log = append(log, fmt.Sprintf("%v ", time.Since(start))+fmt.Sprintf(format, a...))
				}
				streams := c.streams
				s := &source[string]{
					limits: c.limits, backoff: model.Backoff{Min: 100 * time.Millisecond, Max: 500 * time.Millisecond}, log: slog.New(slog.DiscardHandler),
					open: func(ctx context.Context) (receiver[string], error) {
						say("open")
						if len(streams) == 0 {
							return &script{ctx: ctx}, nil
						}
						next := streams[0]
						streams = streams[1:]
						if name, ok := strings.CutPrefix(next, "fail "); ok {
							return nil, code(name)
						}
						var steps []string
						if next != "" {
							steps = strings.Split(next, ",")
						}
						return &script{ctx: ctx, steps: steps}, nil
					},
					receive: func(m *string) { say("%s", *m) },
					failed: func(err error) bool {
						say("end %v", rpc.CodeOf(err))
						return rejected(err)
					},
				}
				stop := errors.New("test is over")
				ctx, cancel := context.WithTimeoutCause(t.Context(), c.until, stop)
				defer cancel()
				if err := s.watch(ctx); !errors.Is(err, stop) {
					say("stop %v", rpc.CodeOf(err))
				}
				if got := strings.Join(log, "; "); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			})
		})
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		l  Limits
		ok bool
	}{
		{Limits{}, true}, {Limits{3, 5, 7}, true}, {Limits{3, 0, 7}, true}, {Limits{0, 5, 0}, true},
		{Limits{6, 5, 7}, false}, {Limits{8, 0, 7}, false}, {Limits{0, 8, 7}, false},
	} {
		if err := c.l.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.l, err)
		}
	}
}
