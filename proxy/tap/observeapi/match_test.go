package observeapi

import (
	"errors"
	"net/netip"
	"testing"

	httptypespb "github.com/linkerd-go/linkerd-go/api/lean/httptypes"
	netpb "github.com/linkerd-go/linkerd-go/api/lean/net"
	tappb "github.com/linkerd-go/linkerd-go/api/lean/tap"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

type match = tappb.ObserveRequest_Match

func seq(list ...*match) *tappb.ObserveRequest_Match_Seq {
	return &tappb.ObserveRequest_Match_Seq{Matches: list}
}

func netmask(ip uint32, bits uint32) *tappb.ObserveRequest_Match_Tcp {
	return &tappb.ObserveRequest_Match_Tcp{Match: &tappb.ObserveRequest_Match_Tcp_Netmask_{Netmask: &tappb.ObserveRequest_Match_Tcp_Netmask{
		Ip: &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: ip}}, Mask: bits}}}
}

func ports(lo, hi uint32) *tappb.ObserveRequest_Match_Tcp {
	return &tappb.ObserveRequest_Match_Tcp{Match: &tappb.ObserveRequest_Match_Tcp_Ports{Ports: &tappb.ObserveRequest_Match_Tcp_PortRange{Min: lo, Max: hi}}}
}

func path(prefix string) *match {
	return &match{Match: &tappb.ObserveRequest_Match_Http_{Http: &tappb.ObserveRequest_Match_Http{Match: &tappb.ObserveRequest_Match_Http_Path{
		Path: &tappb.ObserveRequest_Match_Http_StringMatch{Match: &tappb.ObserveRequest_Match_Http_StringMatch_Prefix{Prefix: prefix}}}}}}
}

func method(m *httptypespb.HttpMethod) *match {
	return &match{Match: &tappb.ObserveRequest_Match_Http_{Http: &tappb.ObserveRequest_Match_Http{Match: &tappb.ObserveRequest_Match_Http_Method{Method: m}}}}
}

func label(k, v string) *match {
	return &match{Match: &tappb.ObserveRequest_Match_DestinationLabel{DestinationLabel: &tappb.ObserveRequest_Match_Label{Key: k, Value: v}}}
}

func TestMatch(t *testing.T) {
	r := &tap.Request{
		Source: netip.MustParseAddrPort("10.1.2.3:4000"), Destination: netip.MustParseAddrPort("[::ffff:10.0.0.2]:8080"),
		DestinationLabels: model.MakeLabels(map[string]string{"namespace": "ns", "service": "web"}),
		Head:              &exchange.RequestHead{Method: []byte("GET"), Path: []byte("/api/x?y"), Authority: []byte("web:80")},
	}
	post := &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Registered_{Registered: httptypespb.HttpMethod_POST}}
	yes := &match{Match: &tappb.ObserveRequest_Match_All{All: seq()}}
	for _, c := range []struct {
		name string
		m    *match
		want bool
		err  error
	}{
		{"all of nothing", yes, true, nil},
		{"any of nothing", &match{Match: &tappb.ObserveRequest_Match_Any{Any: seq()}}, false, nil},
		{"any", &match{Match: &tappb.ObserveRequest_Match_Any{Any: seq(path("/b"), path("/api"))}}, true, nil},
		{"unset matches are skipped", &match{Match: &tappb.ObserveRequest_Match_All{All: seq(&match{}, path("/api"))}}, true, nil},
		{"not", &match{Match: &tappb.ObserveRequest_Match_Not{Not: yes}}, false, nil},
		{"source", &match{Match: &tappb.ObserveRequest_Match_Source{Source: netmask(0x0a010000, 16)}}, true, nil},
		{"other source", &match{Match: &tappb.ObserveRequest_Match_Source{Source: netmask(0x0b000000, 8)}}, false, nil},
		{"destination ports", &match{Match: &tappb.ObserveRequest_Match_Destination{Destination: ports(8000, 9000)}}, true, nil},
		{"mapped destination", &match{Match: &tappb.ObserveRequest_Match_Destination{Destination: netmask(0x0a000002, 32)}}, true, nil},
		{"label", label("service", "web"), true, nil},
		{"other label", label("service", "api"), false, nil},
		{"method", method(post), false, nil},
		{"nothing", nil, false, errMissing},
		{"empty", &match{}, false, errMissing},
		{"label without value", label("service", ""), false, errMissing},
		{"bad mask", &match{Match: &tappb.ObserveRequest_Match_Source{Source: netmask(1, 33)}}, false, errNetwork},
		{"bad port", &match{Match: &tappb.ObserveRequest_Match_Source{Source: ports(1, 70000)}}, false, errPort},
		{"bad method", method(&httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Unregistered{Unregistered: "A B"}}), false, errMethod},
		{"bad below not", &match{Match: &tappb.ObserveRequest_Match_Not{Not: &match{}}}, false, errMissing},
	} {
		f, err := compile(c.m)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		if err == nil && f(r) != c.want {
			t.Errorf("%s: got %v", c.name, !c.want)
		}
	}
}
