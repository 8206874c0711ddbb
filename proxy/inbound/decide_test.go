package inbound

import (
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestPlan(t *testing.T) {
	const none = detect.Protocol(255)
	for _, c := range []struct {
		name     string
		protocol model.Protocol
		tls      series.TLSState
		found    detect.Protocol
		want     plan
	}{
		{"detected, meshed, HTTP/2", model.ProtocolDetect, series.TLSMesh, detect.HTTP2, planHTTP2},
		{"detected, plain, HTTP/1", model.ProtocolDetect, series.TLSNone, detect.HTTP1, planHTTP1},
		{"detected, neither", model.ProtocolDetect, series.TLSNone, detect.NotHTTP, planForward},
		{"detected, silent", model.ProtocolDetect, series.TLSMesh, detect.Undecided, planForward},
		{"detected, the application's TLS", model.ProtocolDetect, series.TLSOpaque, none, planForward},
		{"HTTP/1, plain", model.ProtocolHTTP1, series.TLSNone, none, planHTTP1},
		{"HTTP/1, meshed, upgraded", model.ProtocolHTTP1, series.TLSMesh, detect.HTTP2, planHTTP2},
		{"HTTP/1, meshed, silent", model.ProtocolHTTP1, series.TLSMesh, detect.Undecided, planHTTP1},
		{"HTTP/2, plain", model.ProtocolHTTP2, series.TLSNone, none, planHTTP2},
		{"gRPC, meshed", model.ProtocolGRPC, series.TLSMesh, none, planHTTP2},
		{"opaque", model.ProtocolOpaque, series.TLSNone, none, planForward},
		{"TLS, passed through", model.ProtocolTLS, series.TLSOpaque, none, planForward},
		{"TLS, meshed", model.ProtocolTLS, series.TLSMesh, none, planForward},
	} {
		got := afterTLS(c.protocol, c.tls)
		if got == planSniff || got == planSniffHTTP1 {
			if c.found == none {
				t.Errorf("%s: sniffs", c.name)
				continue
			}
			got = afterSniff(got, c.found)
		} else if c.found != none {
			t.Errorf("%s: does not sniff but is %v", c.name, got)
		}
		if got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
