package integration

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
)

// rawCodec leaves messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(any) ([]byte, error)      { return nil, nil }
func (rawCodec) Unmarshal(b []byte, to any) error { *to.(*[]byte) = bytes.Clone(b); return nil }
func (rawCodec) Name() string                     { return "raw" }

// collector is where spans go; it gives what was sent to it, by method.
func collector(t *testing.T) (addr string, sent <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan string, 100)
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		var b []byte
		for s.RecvMsg(&b) == nil {
			all <- method + " " + string(b)
		}
		if strings.HasPrefix(method, "/opentelemetry") {
			return s.SendMsg(nil)
		}
		return nil
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return l.Addr().String(), all
}

// TestTracing sends a traced request through both proxies: the application sees
// the inbound proxy's span as its parent, and the collector gets the spans when
// the proxies stop, whichever protocol it speaks.
func TestTracing(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for _, c := range []struct{ protocol, header, value string }{
		{"opentelemetry", "Traceparent", "00-" + trace + "-b7ad6b7169203331-01"},
		{"opencensus", "X-B3-Traceid", trace},
	} {
		t.Run(c.protocol, func(t *testing.T) {
			addr, sent := collector(t)
			_, _, m, _, server := meshed(t, map[string]string{
				"TRACE_COLLECTOR_SVC_ADDR": addr, "TRACE_PROTOCOL": c.protocol, "TRACE_SERVICE_NAME": "linkerd-proxy",
			})
			var seen atomic.Value
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen.Store(r.Header.Get("Traceparent") + r.Header.Get("X-B3-Traceid") + "-" + r.Header.Get("X-B3-Spanid"))
			}))
			req, err := http.NewRequest("GET", "http://web.ns.svc.cluster.local/traced?q=1", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(c.header, c.value)
			if c.header == "X-B3-Traceid" {
				req.Header.Set("X-B3-Spanid", "b7ad6b7169203331")
				req.Header.Set("X-B3-Sampled", "1")
			}
			resp, err := m.client(false).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if err := server.stop(); err != nil {
				t.Fatal(err)
			}
			batch := ""
			select {
			case batch = <-sent:
			case <-time.After(patience):
				t.Fatal("no spans were sent")
			}
			id, err := hex.DecodeString(trace)
			if err != nil {
				t.Fatal(err)
			}
			method, body, _ := strings.Cut(batch, " ")
			if strings.Count(body, string(id)) != 2 || !strings.Contains(body, "/traced") || !strings.Contains(body, "linkerd-proxy") ||
				!strings.HasPrefix(method, "/"+c.protocol) {
				t.Errorf("%s: got %q", method, body)
			}
			if got := seen.Load().(string); !strings.Contains(got, trace) || strings.Contains(got, "b7ad6b7169203331") {
				t.Errorf("the application got %s", got)
			}
			if c.protocol == "opentelemetry" {
				var traces tracepb.TracesData
				if err := proto.Unmarshal([]byte(body), &traces); err != nil {
					t.Fatal(err)
				}
				spans := traces.ResourceSpans[0].ScopeSpans[0].Spans
				if !strings.Contains(seen.Load().(string), hex.EncodeToString(spans[0].SpanId)) {
					t.Errorf("the application's parent is not the client span: %v", spans)
				}
			}
		})
	}
}

// TestMemoryIsScarce: requests are shed with the documented error, in HTTP/1,
// HTTP/2 and gRPC, and probes are answered.
func TestMemoryIsScarce(t *testing.T) {
	var used atomic.Int64
	memory = func() (overload.Usage, error) {
		return overload.Usage{Limit: 1 << 30, Used: used.Load(), Heap: used.Load()}, nil
	}
	defer func() { memory = nil }()
	_, _, m, client, _ := meshed(t, nil)
	if resp, _ := m.get(m.client(false), "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	used.Store(900 << 20)
	eventually(t, "shed", func() bool {
		resp, _ := m.get(m.client(false), "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 503 && resp.Header.Get("L5d-Proxy-Error") == "service unavailable" &&
			resp.Header.Get("L5d-Proxy-Connection") == "close" && resp.Close
	})
	if resp, _ := m.get(m.client(true), "http://web.ns.svc.cluster.local/"); resp.StatusCode != 503 {
		t.Error(resp.StatusCode)
	}
	if got := m.call("/s/M"); got != `200 "" head 14 service unavailable` {
		t.Error(got)
	}
	if status, _ := client.adminGet(t, "/ready"); status != 200 {
		t.Error("a probe was not answered")
	}
	exports(t, func() string {
		_, text := client.adminGet(t, "/metrics")
		return text
	}, "proxy_memory_shedding 1\n", `outbound_http_errors_total{error="loadshed"}`)
	used.Store(100 << 20)
	eventually(t, "served again", func() bool {
		resp, _ := m.get(m.client(false), "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 200
	})
	eventually(t, "told in the log", func() bool { return strings.Contains(client.log.String(), "Memory is no longer scarce") })
}

// TestInboundGRPCRoutes counts in the gRPC families.
func TestInboundGRPCRoutes(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(grpcApp))
	port(func(p *model.ServerPolicy) {
		p.Protocol = model.ProtocolGRPC
		p.Routes.GRPC = true
		p.Routes.List[0].Rules[0].Matches = []model.Match{{Service: "s"}}
	})(m)
	eventually(t, "policy", func() bool { return m.call("/other/M") == `200 "" head 5 no route found for request` })
	if got := m.call("/s/Ok"); got != `200 "data" 0 ` {
		t.Error(got)
	}
	if got := m.call("/s/Fail"); got != `200 "" head 14 ` && got != `200 "" 14 ` {
		t.Error(got)
	}
	parent := `{parent_group="",parent_kind="default",parent_name="all-unauthenticated",parent_port="8080",route_group="",route_kind="default",route_name="default"`
	m.wants(m.in.reg, "inbound_grpc_requests_total"+parent+"} 2", "inbound_grpc_statuses_total"+parent+`,status="14"} 1`,
		"inbound_grpc_statuses_total"+parent+`,status="0"} 1`)
}

// TestRetryBudgetIsExhausted: what was not retried for want of budget is counted.
func TestRetryBudgetIsExhausted(t *testing.T) {
	m := newMesh(t, viaProxy)
	h, _ := failing(1000, 503)
	m.serve(h)
	target := servicePolicy(nil)
	target.ProfileHTTP = true
	target.Profile = &model.Profile{
		Name: "web.ns.svc.cluster.local", Routes: []model.ProfileRoute{{Condition: model.RequestMatch{Op: model.OpAll}, Retryable: true}},
		Budget: &model.RetryBudget{MinPerSecond: 1, TTL: time.Second},
	}
	m.target.Set(target)
	c := m.client(false)
	// The budget comes back with time, a retry a second, so that a machine which is
	// slow for a while may need more requests.
	eventually(t, "no budget", func() bool {
		for range 20 {
			m.get(c, "http://web.ns.svc.cluster.local/")
		}
		return strings.Contains(string(m.out.reg.AppendText(nil)), `route_retryable_total{direction="outbound",dst="web.ns.svc.cluster.local:80",skipped="no_budget"}`)
	})
}

// TestNamesInLabelsAreBounded: clients that make names up fill neither the
// metrics nor the memory.
func TestNamesInLabelsAreBounded(t *testing.T) {
	m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		oc.HostnameLabels, ic.AuthorityLabels = true, true
	})
	m.serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	const names = 2000
	c := m.dial(m.outAddr)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		done <- err
	}()
	var b bytes.Buffer
	for i := range names {
		fmt.Fprintf(&b, "GET /%d HTTP/1.1\r\nHost: h%d.example.com\r\n\r\n", i, i)
	}
	b.WriteString("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
	if _, err := c.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ text, name string }{
		{string(m.out.reg.AppendText(nil)), "outbound_http_route_request_statuses_total"},
		{string(m.in.reg.AppendText(nil)), "request_total"}, {string(m.in.reg.AppendText(nil)), "response_total"},
	} {
		n := strings.Count(f.text, "\n"+f.name+"{")
		if n > 300 || n < 100 || !strings.Contains(f.text, `="other"`) {
			t.Errorf("%d series of %s after requests for %d names", n, f.name, names)
		}
	}
}

// TestOutboundOutlivesInbound: an application that ends may call others until it
// has ended, if the proxy is told so.
func TestOutboundOutlivesInbound(t *testing.T) {
	ctl, _, m, _, server := meshed(t, map[string]string{"SHUTDOWN_KEEP_OUTBOUND": "true"})
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", testcontrol.Endpoint(serverAddr.String()))
	began, proceed := make(chan struct{}), make(chan struct{})
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			close(began)
			<-proceed
		}
	}))
	inbound, outbound := server.Addrs().Inbound.String(), server.Addrs().Outbound[0].String()
	answer := make(chan int, 1)
	go func() { answer <- m.request(inbound, "GET", "/hold", "Connection", "close").StatusCode }()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- server.stop() }()
	eventually(t, "inbound closed", func() bool {
		c, err := net.Dial("tcp", inbound)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	for range 3 {
		if got := m.request(outbound, "GET", "/", "Connection", "close").StatusCode; got != 200 {
			t.Errorf("outbound while draining: %d", got)
		}
	}
	close(proceed)
	if got := <-answer; got != 200 {
		t.Errorf("the request in flight: %d", got)
	}
	if got := m.request(outbound, "GET", "/", "Connection", "close").StatusCode; got != 200 {
		t.Errorf("outbound after inbound: %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", outbound); err == nil {
		c.Close()
		t.Error("outbound is open after the end")
	}
}
