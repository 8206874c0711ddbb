package integration

import (
	"bufio"
	"io"
	"math"
	"net"
	"runtime"
	"testing"
)

// exchangeOn sends the bench request and reads the response.
func exchangeOn(t *testing.T, c net.Conn, r *bufio.Reader, request []byte) {
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		if len(line) <= 2 {
			break
		}
	}
	if _, err := r.Discard(64); err != nil {
		t.Fatal(err)
	}
}

// TestRequestsAllocateNothing guards the hot path: both proxies together, with
// TLS and HTTP/2 between them. What is left is one allocation that the TLS
// library makes for each record it reads, on either side, and one of the
// runtime's.
func TestRequestsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates and empties pools")
	}
	m := newMesh(t, viaProxy)
	m.serveTCP(benchServer)
	c := m.dial(m.outAddr)
	r := bufio.NewReaderSize(c, 4096)
	request := []byte(benchRequest)
	run := func(n int) {
		for range n {
			exchangeOn(t, c, r, request)
		}
	}
	run(500)
	// The least of some rounds is what a request costs: a busy machine splits
	// records and wakes the runtime's own workers, which allocate too.
	const n = 1000
	least := math.Inf(1)
	for range 8 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run(n)
		runtime.ReadMemStats(&after)
		least = min(least, float64(after.Mallocs-before.Mallocs)/n)
	}
	t.Logf("%.2f allocations per request", least)
	if least > 3.5 {
		t.Errorf("%.2f allocations per request", least)
	}
}

// TestIdleConnectionsAreSmall guards the memory of clients that keep connections
// open: what the heap and the stacks grow by for each at the outbound proxy.
func TestIdleConnectionsAreSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's memory counts")
	}
	m := newMesh(t, viaProxy)
	m.serveTCP(benchServer)
	request := []byte(benchRequest)
	open := func(n int) {
		for range n {
			c, err := net.Dial("tcp", m.outAddr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			small := bufio.NewReaderSize(c, 16)
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			// 64 bytes of body after the head; nothing of it is kept.
			for seen := 0; seen < 2; {
				b, err := small.ReadByte()
				if err != nil {
					t.Fatal(err)
				}
				if b == '\n' {
					seen++
				} else if b != '\r' {
					seen = 0
				}
			}
			if _, err := io.CopyN(io.Discard, small, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc + s.StackInuse
	}
	open(20)
	before := used()
	const n = 300
	open(n)
	per := float64(used()-before) / n
	t.Logf("%.0f bytes per idle connection", per)
	if per > 16<<10 {
		t.Errorf("%.0f bytes per idle connection", per)
	}
}
