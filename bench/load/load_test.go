package load

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestHistogram(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("empty: %v", got)
	}
	for i := range 1000 {
		h.Record(time.Duration(i+1) * time.Microsecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 500 * time.Microsecond}, {0.99, 990 * time.Microsecond}, {0.999, time.Millisecond}, {1, time.Millisecond}} {
		got := h.Quantile(c.q)
		if got < c.want || got > c.want*104/100 {
			t.Errorf("quantile %v is %v, want about %v", c.q, got, c.want)
		}
	}
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 1000, 1 << 20, 1<<32 - 1} {
		if up := upper(bucket(v)); up < v || up > v+v/32 {
			t.Errorf("bucket of %d ends at %d", v, up)
		}
	}
}

func TestHTTP1(t *testing.T) {
	for _, body := range []int{0, 100, 200_000} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			if len(b) != body {
				http.Error(w, "wrong size", http.StatusBadRequest)
			}
			// Without it, net/http leaves the length of large answers open.
			w.Header().Set("Content-Length", strconv.Itoa(body))
			w.Write(b)
		}))
		for _, rate := range []int{0, 500} {
			res, err := Run(Options{Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), Protocol: HTTP1, Conns: 4, Rate: rate,
				Warm: 10 * time.Millisecond, Duration: 100 * time.Millisecond, Authority: "a", Path: "/", Body: body})
			if err != nil || res.Requests == 0 || res.All < res.Requests {
				t.Errorf("body %d, rate %d: %+v, %v", body, rate, res, err)
			}
			// What was held up before measuring began comes on top.
			if rate > 0 && res.Requests > 100 {
				t.Errorf("%d requests in 100 ms at %d per second", res.Requests, rate)
			}
		}
		s.Close()
	}
}

func TestRefusalIsAnError(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, err := Run(Options{Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), Protocol: HTTP1, Conns: 1,
		Duration: time.Second, Authority: "a", Path: "/"})
	if err == nil {
		t.Error("a status of 404 counted")
	}
}

func TestHold(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }))
	open := make(chan struct{}, 100)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			open <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	release, err := Hold(netip.MustParseAddrPort(s.Listener.Addr().String()), "a", 40)
	if err != nil {
		t.Fatal(err)
	}
	if len(open) != 40 {
		t.Errorf("%d connections", len(open))
	}
	release()
}
