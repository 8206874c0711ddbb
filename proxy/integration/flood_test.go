package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"
)

// floods are frames that cost little to send. Each is sent very often, on a
// connection on which stream 1 is over.
var floods = []struct {
	name string
	// send writes the frames of a step; n counts them from 0.
	send func(fr *xhttp2.Framer, n uint32) error
	// server says what becomes of a client that does this, and client of a server,
	// with alternatives: "served", or the code of the GOAWAY. Answers that the peer
	// does not read at once may be too many.
	server, client string
}{
	{"PING", func(fr *xhttp2.Framer, _ uint32) error { return fr.WritePing(false, [8]byte{}) },
		"served|ENHANCE_YOUR_CALM", "served|ENHANCE_YOUR_CALM"},
	{"answers to no PING", func(fr *xhttp2.Framer, _ uint32) error { return fr.WritePing(true, [8]byte{1}) }, "served", "served"},
	{"SETTINGS", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteSettings() },
		"served|ENHANCE_YOUR_CALM", "served|ENHANCE_YOUR_CALM"},
	{"answers to no SETTINGS", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteSettingsAck() }, "served", "served"},
	{"PRIORITY", func(fr *xhttp2.Framer, n uint32) error {
		return fr.WritePriority(2*n+1, xhttp2.PriorityParam{StreamDep: 0})
	}, "served", "served"},
	{"WINDOW_UPDATE of 1", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteWindowUpdate(0, 1) }, "served", "served"},
	{"WINDOW_UPDATE of a closed stream", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteWindowUpdate(1, 1) }, "served", "served"},
	{"RST_STREAM of a closed stream", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteRSTStream(1, xhttp2.ErrCodeCancel) }, "served", "served"},
	{"RST_STREAM of an idle stream", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteRSTStream(1<<20+1, xhttp2.ErrCodeCancel) },
		"PROTOCOL_ERROR", "PROTOCOL_ERROR"},
	{"frames of an unknown type", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteRawFrame(0x77, 0, 1, nil) }, "served", "served"},
	{"empty DATA of a closed stream", func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteData(1, false, nil) },
		"served|ENHANCE_YOUR_CALM", "served|ENHANCE_YOUR_CALM"},
	{"empty HEADERS of a closed stream", func(fr *xhttp2.Framer, _ uint32) error {
		return fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true})
	}, "STREAM_CLOSED", "STREAM_CLOSED"},
	{"empty HEADERS of new streams", func(fr *xhttp2.Framer, n uint32) error {
		return fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 2*n + 3, EndHeaders: true, EndStream: true})
	}, "served|ENHANCE_YOUR_CALM", "PROTOCOL_ERROR"},
	{"empty CONTINUATION", func(fr *xhttp2.Framer, n uint32) error {
		if n == 0 {
			return fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, EndStream: true})
		}
		return fr.WriteContinuation(3, false, nil)
	}, "ENHANCE_YOUR_CALM", "ENHANCE_YOUR_CALM|PROTOCOL_ERROR"},
}

// manyFrames is how long a flood is.
const manyFrames = 30_000

// grown fails the test if there is much more of memory or goroutines than before.
func grown(t *testing.T) (check func()) {
	count := func() (goroutines int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	g0, h0 := count()
	return func() {
		t.Helper()
		var g int
		var h uint64
		if !soon(func() bool { g, h = count(); return g < g0+50 && h < h0+8<<20 }) {
			t.Errorf("%d goroutines and %d bytes became %d and %d", g0, h0, g, h)
		}
	}
}

// TestFloodsOfClients: a client sends very many frames that cost it little. They keep
// nothing, others are served, and it is served itself or told why not.
func TestFloodsOfClients(t *testing.T) {
	request := []string{":method", "GET", ":scheme", "http", ":authority", "web", ":path", "/"}
	for _, f := range floods {
		for _, reads := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/reads %v", f.name, reads), func(t *testing.T) {
				m := newMesh(t, viaProxy)
				m.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }))
				other := clientTo(t, m.inAddr, true)
				m.get(other, "http://web.ns.svc.cluster.local/")
				h := m.hand(t, m.inAddr)
				h.headers(1, true, request...)
				if got := h.answer(1); got != "200 4" {
					t.Fatalf("at first answered %q", got)
				}
				check := grown(t)
				const id = 1<<18 + 1
				flood := func() {
					for n := range uint32(manyFrames) {
						if f.send(h.fr, n) != nil {
							return
						}
					}
					h.headers(id, true, request...)
				}
				got := ""
				if reads {
					done := make(chan struct{})
					go func() { defer close(done); flood() }()
					got = h.answer(id)
					<-done
				} else {
					flood()
					got = h.answer(id)
				}
				want := strings.ReplaceAll(f.server, "served", "200 4")
				// What the proxy has said last may be lost if it was not read.
				if got = strings.TrimPrefix(got, "GOAWAY "); !slices.Contains(strings.Split(want, "|"), got) && !(got == "end" && want != "200 4") {
					t.Errorf("ended with %q, want %q", got, f.server)
				}
				check()
				if resp, body := m.get(other, "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 || body != "fine" {
					t.Errorf("another client got %d %q", resp.StatusCode, body)
				}
			})
		}
	}
}

// TestFloodsOfServers: the same by a server. What it is asked meanwhile is answered
// by it, or by the proxy, and later requests over another connection.
func TestFloodsOfServers(t *testing.T) {
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			var flooded atomic.Bool
			told := make(chan string, 1)
			m.serveTCP(func(c net.Conn) {
				if _, err := io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface))); err != nil {
					return
				}
				fr := xhttp2.NewFramer(c, c)
				fr.AllowIllegalWrites = true
				fr.ReadMetaHeaders = xhpack.NewDecoder(4096, nil)
				_ = fr.WriteSettings()
				for {
					frame, err := fr.ReadFrame()
					if err != nil {
						return
					}
					if _, ok := frame.(*xhttp2.MetaHeadersFrame); !ok {
						continue
					}
					id := frame.Header().StreamID
					if id == 3 && !flooded.Swap(true) {
						gone := make(chan struct{})
						go func() {
							defer close(gone)
							for {
								frame, err := fr.ReadFrame()
								if err != nil {
									return
								}
								if g, ok := frame.(*xhttp2.GoAwayFrame); ok && g.ErrCode != xhttp2.ErrCodeNo {
									told <- g.ErrCode.String()
									return
								}
							}
						}()
						for n := range uint32(manyFrames) {
							if f.send(fr, n) != nil {
								break
							}
						}
						_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x88}})
						<-gone
						return
					}
					_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x88}})
				}
			})
			c := clientTo(t, m.inAddr, true)
			status := func() int {
				resp, err := c.Get("http://web.ns.svc.cluster.local/")
				if err != nil {
					return 0 // reset
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			if got := status(); got != 200 {
				t.Fatalf("at first answered %d", got)
			}
			check := grown(t)
			if got := status(); got != 200 && (f.client == "served" || got != 502 && got != 0) {
				t.Errorf("answered %d while flooded, want %s", got, f.client)
			}
			check()
			select {
			case code := <-told:
				if !slices.Contains(strings.Split(f.client, "|"), code) {
					t.Errorf("the server was told %s, want %s", code, f.client)
				}
			default: // nothing, or it was lost behind what was not read any more
			}
			if !strings.HasPrefix(f.client, "served") {
				eventually(t, "the next is answered", func() bool { return status() == 200 })
			}
		})
	}
}
