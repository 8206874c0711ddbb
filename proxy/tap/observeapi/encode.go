package observeapi

import (
	"net/netip"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/api/lean"
	httptypespb "github.com/linkerd-go/linkerd-go/api/lean/httptypes"
	netpb "github.com/linkerd-go/linkerd-go/api/lean/net"
	tappb "github.com/linkerd-go/linkerd-go/api/lean/tap"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
)

// encode makes the wire form of an event.
func encode(base uint32, e *tap.Event) *tappb.TapEvent {
	out := &tappb.TapEvent{
		Source: tcpAddress(e.Source), Destination: tcpAddress(e.Destination),
		SourceMeta:      &tappb.TapEvent_EndpointMeta{Labels: labels(e.SourceLabels)},
		DestinationMeta: &tappb.TapEvent_EndpointMeta{Labels: labels(e.DestinationLabels)},
		RouteMeta:       &tappb.TapEvent_RouteMeta{Labels: labels(e.RouteLabels)},
		ProxyDirection:  tappb.TapEvent_INBOUND,
	}
	if e.Outbound {
		out.ProxyDirection = tappb.TapEvent_OUTBOUND
	}
	id := &tappb.TapEvent_Http_StreamId{Base: base, Stream: e.Stream}
	http := &tappb.TapEvent_Http{}
	out.Event = &tappb.TapEvent_Http_{Http: http}
	switch e.Kind {
	case tap.RequestInit:
		http.Event = &tappb.TapEvent_Http_RequestInit_{RequestInit: &tappb.TapEvent_Http_RequestInit{
			Id: id, Method: httpMethod(e.Method), Scheme: httpScheme(e.Scheme), Authority: text(e.Authority), Path: text(e.Path), Headers: headers(e.Headers),
		}}
	case tap.ResponseInit:
		http.Event = &tappb.TapEvent_Http_ResponseInit_{ResponseInit: &tappb.TapEvent_Http_ResponseInit{
			Id: id, SinceRequestInit: since(e.SinceRequest), HttpStatus: uint32(e.Status), Headers: headers(e.Headers),
		}}
	case tap.ResponseEnd:
		end := &tappb.TapEvent_Http_ResponseEnd{
			Id: id, SinceRequestInit: since(e.SinceRequest), ResponseBytes: e.Bytes, Trailers: headers(e.Headers),
		}
		if e.HasHead {
			end.SinceResponseInit = since(e.SinceResponse)
		}
		switch {
		case e.End.Reset >= 0:
			end.Eos = &tappb.Eos{End: &tappb.Eos_ResetErrorCode{ResetErrorCode: uint32(e.End.Reset)}}
		case e.End.GRPC >= 0:
			end.Eos = &tappb.Eos{End: &tappb.Eos_GrpcStatusCode{GrpcStatusCode: uint32(e.End.GRPC)}}
		}
		http.Event = &tappb.TapEvent_Http_ResponseEnd_{ResponseEnd: end}
	}
	return out
}

// text is s as it may stand in a message: a path may have any bytes, and clients
// give up a stream for one that is not UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func since(d time.Duration) *lean.Duration { return lean.NewDuration(d) }

func labels(l model.Labels) map[string]string {
	out := make(map[string]string, len(l))
	for _, e := range l {
		out[e.Key] = e.Value
	}
	return out
}

func headers(list []tap.Header) *httptypespb.Headers {
	if list == nil {
		return nil
	}
	out := &httptypespb.Headers{}
	for _, h := range list {
		out.Headers = append(out.Headers, &httptypespb.Headers_Header{Name: h.Name, Value: h.Value})
	}
	return out
}

func httpMethod(s string) *httptypespb.HttpMethod {
	if n, ok := httptypespb.HttpMethod_Registered_value[s]; ok {
		return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Registered_{Registered: httptypespb.HttpMethod_Registered(n)}}
	}
	return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Unregistered{Unregistered: s}}
}

func httpScheme(s string) *httptypespb.Scheme {
	if n, ok := httptypespb.Scheme_Registered_value[strings.ToUpper(s)]; ok {
		return &httptypespb.Scheme{Type: &httptypespb.Scheme_Registered_{Registered: httptypespb.Scheme_Registered(n)}}
	}
	return &httptypespb.Scheme{Type: &httptypespb.Scheme_Unregistered{Unregistered: s}}
}

func tcpAddress(a netip.AddrPort) *netpb.TcpAddress {
	if !a.IsValid() {
		return nil
	}
	out := &netpb.TcpAddress{Port: uint32(a.Port()), Ip: &netpb.IPAddress{}}
	ip := a.Addr().Unmap()
	if ip.Is4() {
		b := ip.As4()
		out.Ip.Ip = &netpb.IPAddress_Ipv4{Ipv4: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])}
		return out
	}
	b := ip.As16()
	v := &netpb.IPv6{}
	for i := range 8 {
		v.First = v.First<<8 | uint64(b[i])
		v.Last = v.Last<<8 | uint64(b[8+i])
	}
	out.Ip.Ip = &netpb.IPAddress_Ipv6{Ipv6: v}
	return out
}
