package drain

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestDrainWaitsForHandles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		a, _ := d.Hold()
		b, ok := d.Hold()
		if !ok || d.Draining() {
			t.Fatal("a drain that has not begun refused work")
		}
		done := make(chan error, 1)
		go func() { done <- d.Drain(t.Context()) }()
		<-d.Started()
		if _, ok := d.Hold(); ok {
			t.Error("work was taken while draining")
		}
		a.Release()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("drained while a handle was out")
		default:
		}
		b.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDrainGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		h, _ := d.Hold()
		conn, peer := net.Pipe()
		defer peer.Close()
		h.Attach(conn)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		began := time.Now()
		err := d.Drain(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Minute {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if _, err := conn.Write(nil); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("what was left was not ended: %v", err)
		}
		h.Release()
		if err := d.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestDrainOfNothingIsImmediate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New().Drain(ctx); err != nil {
		t.Error(err)
	}
}

func TestDrainTellsThoseWhoHold(t *testing.T) {
	d := New()
	var told []string
	a, _ := d.Hold()
	b, _ := d.Hold()
	c, _ := d.Hold()
	a.OnStart(func() { told = append(told, "a"); a.Release() })
	b.OnStart(func() { told = append(told, "b") })
	b.Release()
	b.Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Drain(ctx); err == nil {
		t.Error("drained while a handle was out")
	}
	c.OnStart(func() { told = append(told, "c"); c.Release() })
	if err := d.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if len(told) != 2 || told[0] != "a" || told[1] != "c" {
		t.Errorf("told %v", told)
	}
}

// TestBytesHaveALimitOfTheirOwn: connections that only carry bytes are closed before
// the drain gives up, those that begin to do so later at once, and no others.
func TestBytesHaveALimitOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		d.LimitBytes(5 * time.Second)
		started := time.Now()
		closed := map[string]time.Duration{}
		var mu sync.Mutex
		var conns []net.Conn
		hold := func(name string, bytes bool) *Handle {
			h, ok := d.Hold()
			if !ok {
				t.Fatal("refused")
			}
			conn, peer := net.Pipe()
			conns = append(conns, conn)
			h.Attach(conn)
			if bytes {
				h.Bytes()
			}
			go func() {
				_, _ = peer.Read(make([]byte, 1)) // until conn is closed
				mu.Lock()
				closed[name] = time.Since(started)
				mu.Unlock()
				h.Release()
			}()
			return h
		}
		hold("bytes", true)
		request := hold("request", false)
		upgrade := hold("upgrade", false)
		gone := hold("gone", true)
		gone.Release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		time.AfterFunc(8*time.Second, upgrade.Bytes)
		time.AfterFunc(20*time.Second, request.Release)
		if err := d.Drain(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(started); took != 20*time.Second {
			t.Errorf("drained after %v", took)
		}
		mu.Lock()
		defer mu.Unlock()
		if closed["bytes"] != 5*time.Second || closed["upgrade"] != 8*time.Second || len(closed) != 2 {
			t.Errorf("closed %v", closed)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

func TestConnsAreThoseThatMayBeGivenUp(t *testing.T) {
	d := New()
	var made []net.Conn
	for i := range 4 {
		conn, peer := net.Pipe()
		defer conn.Close()
		defer peer.Close()
		made = append(made, conn)
		h, _ := d.Hold()
		h.Attach(conn)
		if i != 1 {
			h.OnWeigh(func() int { return 100 + i })
		}
		if i == 3 {
			h.Release()
		}
	}
	got := d.Conns()
	if len(got) != 2 || got[0].Conn != made[2] || got[0].Weight != 102 || got[1].Conn != made[0] || got[1].Weight != 100 {
		t.Errorf("got %v", got)
	}
}
