package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// call makes a gRPC call and gives status (from trailers, else headers), message
// and what came before.
func (m *mesh) call(path string) string {
	m.t.Helper()
	req, err := http.NewRequest("POST", "http://web.ns.svc.cluster.local"+path, strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := m.client(true).Do(req)
	if err != nil {
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "body error: " + err.Error()
	}
	status, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if status == "" {
		status, message = "head "+resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	return fmt.Sprintf("%d %q %s %s", resp.StatusCode, body, status, message)
}

// grpcApp answers calls by their path.
func grpcApp(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	switch r.URL.Path {
	case "/s/Fail":
		w.WriteHeader(200)
		w.Header().Set("Grpc-Status", "14")
		return
	case "/s/Hang":
		w.WriteHeader(200)
		_, _ = io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	case "/s/Reset":
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, "data")
	w.Header().Set("Grpc-Status", "0")
}

func TestGRPC(t *testing.T) {
	grpcPolicy := func(edit func(*model.Rule)) func(*mesh) {
		return func(m *mesh) {
			m.target.Set(servicePolicy(func(p *model.ClientPolicy) {
				p.Protocol = model.ProtocolGRPC
				h := *p.HTTP2
				h.Routes.GRPC = true
				h.Routes.List[0].Rules[0].Matches = []model.Match{{Service: "s"}}
				if edit != nil {
					edit(&h.Routes.List[0].Rules[0])
				}
				p.HTTP1, p.HTTP2 = nil, &h
			}))
		}
	}
	for _, c := range []struct {
		name, path string
		prepare    func(*mesh)
		want       string
		out, in    string
	}{
		{
			name: "ok", path: "/s/Get", prepare: grpcPolicy(nil), want: `200 "data" 0 `,
			out: "outbound_grpc_route_request_statuses_total{" + routeLabels + `,grpc_status="OK",error=""} 1`,
		},
		{
			name: "ok without a gRPC policy", path: "/s/Get", want: `200 "data" 0 `,
			out: "outbound_http_route_request_statuses_total{" + routeLabels + `,http_status="200",error=""} 1`,
		},
		{
			name: "failure in trailers", path: "/s/Fail", prepare: grpcPolicy(nil), want: `200 "" 14 `,
			out: "outbound_grpc_route_request_statuses_total{" + routeLabels + `,grpc_status="UNAVAILABLE",error=""} 1`,
			in:  `status_code="200",classification="failure",grpc_status="14",error=""} 1`,
		},
		{
			name: "no route", path: "/other/Get", prepare: grpcPolicy(nil), want: `200 "" head 5 no route`,
		},
		{
			name: "denied", path: "/s/Get", prepare: port(func(p *model.ServerPolicy) { p.Authorizations = nil }),
			want: `200 "" head 7 unauthorized request on route`,
		},
		{
			name: "idle timeout", path: "/s/Hang", prepare: grpcPolicy(func(r *model.Rule) { r.Timeouts.Idle = 100 * time.Millisecond }),
			want: `200 "part" 4 timed out processing response stream: idle timeout: 100ms`,
			out:  "outbound_grpc_route_request_statuses_total{" + routeLabels + `,grpc_status="UNKNOWN",error="IDLE_TIMEOUT"} 1`,
		},
		{
			name: "injected", path: "/s/Get", prepare: grpcPolicy(func(r *model.Rule) {
				r.Filters = []model.Filter{{Kind: model.FilterFailure, Failure: &model.Failure{GRPC: true, Code: 9, Message: "not today", Numerator: 1, Denominator: 1}}}
			}),
			want: `200 "" head 9 not today`,
		},
		{
			name: "retried by trailers", path: "/s/Fail", prepare: grpcPolicy(func(r *model.Rule) {
				r.Retry = &model.Retry{Max: 2, MaxRequestBytes: 100, Codes: model.Codes(14)}
			}),
			want: `200 "" 14 `,
			out:  "outbound_grpc_route_retry_requests_total{" + routeLabels + "} 2",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			m.serve(http.HandlerFunc(grpcApp))
			if c.prepare != nil {
				c.prepare(m)
			}
			var got string
			ask := func() bool { got = m.call(c.path); return got == c.want }
			// On a busy machine a stream may be idle for too long before its head is
			// there.
			if !ask() && !(c.name == "idle timeout" && soon(ask)) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.out != "" {
				m.wants(m.out.reg, c.out)
			}
			if c.in != "" {
				exports(t, func() string { return string(m.in.reg.AppendText(nil)) }, c.in)
			}
		})
	}
}

func TestResetIsPassedOn(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(grpcApp))
	if got := m.call("/s/Reset"); !strings.Contains(got, "INTERNAL_ERROR") {
		t.Errorf("got %s", got)
	}
	m.wants(m.out.reg, "outbound_http_route_request_statuses_total{"+routeLabels+`,http_status="",error="RESET"} 1`)
}
