package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

var (
	seed   = flag.Uint64("seed", 0, "seed of the randomized tests; 0 draws one")
	rounds = flag.Int("rounds", 40, "requests of the randomized tests for each way")
)

// conversation is a request and the response that the application shall give.
type conversation struct {
	method, path, query string
	fields              [][2]string
	body                []byte
	chunked             bool
	status              int
	answer              []byte
	pieces              int
	trailer             bool
}

// draw makes a conversation.
func draw(r *rand.Rand) conversation {
	c := conversation{
		method: []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"}[r.IntN(8)],
		path:   "/" + strings.Repeat("p", r.IntN(30)), status: []int{200, 201, 204, 301, 304, 404, 418, 500, 503}[r.IntN(9)],
		pieces: 1 + r.IntN(5), chunked: r.IntN(2) == 0, trailer: r.IntN(4) == 0,
	}
	if r.IntN(2) == 0 {
		c.query = fmt.Sprintf("q=%d&x=%%20", r.IntN(100))
	}
	for i := range r.IntN(6) {
		c.fields = append(c.fields, [2]string{fmt.Sprintf("X-Field-%d", i%3), strings.Repeat("v", r.IntN(200))})
	}
	size := func() int { return []int{0, 1, 100, 4 << 10, 40 << 10, 300 << 10}[r.IntN(6)] }
	if c.method != "GET" && c.method != "HEAD" {
		c.body = random(r, size())
	}
	if c.method != "HEAD" && c.status != 204 && c.status != 304 {
		c.answer = random(r, size())
	}
	return c
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// says is what one side saw of the other, as far as all ways must agree.
func says(parts ...any) string { return fmt.Sprint(parts...) }

func digest(b []byte) string { return fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b)) }

func pick(h http.Header, prefix string) string {
	var out []string
	for k, v := range h {
		if strings.HasPrefix(k, prefix) {
			out = append(out, fmt.Sprint(k, v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// play sends the conversation over a client and gives what both sides saw.
func play(c *http.Client, app *http.HandlerFunc, conv conversation) string {
	seen := make(chan string, 4)
	*app = func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		seen <- says(r.Method, " ", r.URL.Path, "?", r.URL.RawQuery, " ", r.Host, " ", pick(r.Header, "X-Field"), " ", digest(body), " ", err)
		if conv.trailer {
			w.Header().Set("Trailer", "X-Trailer")
		}
		w.Header().Set("X-Answer", "yes")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		if len(conv.answer) > 0 && conv.pieces == 1 && !conv.trailer {
			w.Header().Set("Content-Length", fmt.Sprint(len(conv.answer)))
		}
		w.WriteHeader(conv.status)
		for i := range conv.pieces {
			lo, hi := len(conv.answer)*i/conv.pieces, len(conv.answer)*(i+1)/conv.pieces
			_, _ = w.Write(conv.answer[lo:hi])
			if conv.pieces > 1 && hi > lo {
				w.(http.Flusher).Flush()
			}
		}
		if conv.trailer {
			w.Header().Set("X-Trailer", "end")
		}
	}
	url := "http://web.ns.svc.cluster.local" + conv.path
	if conv.query != "" {
		url += "?" + conv.query
	}
	var body io.Reader
	if len(conv.body) > 0 {
		body = bytes.NewReader(conv.body)
		if conv.chunked {
			body = struct{ io.Reader }{body}
		}
	}
	req, err := http.NewRequest(conv.method, url, body)
	if err != nil {
		return err.Error()
	}
	for _, f := range conv.fields {
		req.Header.Add(f[0], f[1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	server := "nothing"
	select {
	case server = <-seen:
	default:
	}
	trailer := ""
	// HTTP/1 without chunks, and responses without body, have no trailers.
	if len(conv.answer) > 0 && conv.pieces > 1 {
		trailer = pick(resp.Trailer, "X-")
	}
	return says("server saw ", server, "; client saw ", resp.StatusCode, " ", pick(resp.Header, "X-Answer"), " ",
		resp.Header["Set-Cookie"], " ", digest(answer), " ", err, " ", trailer)
}

// TestAllWaysAgree sends the same random conversations without a mesh and over
// every way through it: nobody on either side may see a difference.
func TestAllWaysAgree(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", *seed)
	for _, http2 := range []bool{false, true} {
		for name, edit := range map[string]func(*outbound.Config, *inbound.Config){
			"meshed":     viaProxy,
			"plain peer": nil,
			"unmeshed": func(oc *outbound.Config, _ *inbound.Config) {
				oc.OriginalDst = func(net.Conn) (netip.AddrPort, error) { return serverAddr, nil }
			},
			"opaque": direct,
		} {
			t.Run(fmt.Sprintf("http2=%v/%s", http2, name), func(t *testing.T) {
				m := newMesh(t, edit)
				var app http.HandlerFunc
				m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { app(w, r) }))
				addr := m.outAddr
				switch name {
				case "plain peer":
					addr = m.inAddr
				case "opaque":
					m.target.Set(opaqueTarget())
					m.endpoints.Set(endpoints(transported()))
					m.net.set(netip.MustParseAddrPort("127.0.0.1:8080"), m.net.get(serverAddr))
				}
				mesh := clientTo(t, addr, http2)
				alone := clientTo(t, m.net.get(serverAddr), http2)
				r := rand.New(rand.NewPCG(*seed, 0))
				for i := range *rounds {
					conv := draw(r)
					want := play(alone, &app, conv)
					if got := play(mesh, &app, conv); got != want {
						t.Fatalf("conversation %d: %s %s, status %d, %d bytes there (chunked %v), %d bytes back in %d pieces\nthrough the mesh: %s\nwithout:          %s",
							i, conv.method, conv.path, conv.status, len(conv.body), conv.chunked, len(conv.answer), conv.pieces, got, want)
					}
				}
			})
		}
	}
}

// clientTo is a client whose connections all go to one address.
func clientTo(t *testing.T, addr string, http2 bool) *http.Client {
	tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}}
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	tr.Protocols = &protocols
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}
