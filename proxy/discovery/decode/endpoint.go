package decode

import (
	"net/netip"
	"strings"

	destinationpb "github.com/linkerd-go/linkerd-go/api/lean/destination"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Endpoint decodes an address with what is known about it (proxy API chapter,
// section 3.10). labels are those of its set. ok is false if there is no usable
// address; anything else that is wrong is left out.
func Endpoint(w *destinationpb.WeightedAddr, labels map[string]string) (e *model.Endpoint, ok bool) {
	addr, ok := AddrPort(w.GetAddr())
	if !ok {
		return nil, false
	}
	e = &model.Endpoint{
		Addr:   addr,
		TLS:    tlsIdentity(w.GetTlsIdentity()),
		Labels: model.MakeLabels(labels, w.GetMetricLabels()),
		HTTP2:  http2Params(w.GetHttp2()),
		Weight: w.GetWeight(),
	}
	switch w.GetProtocolHint().GetProtocol().(type) {
	case *destinationpb.ProtocolHint_H2_:
		e.Hint = model.HintH2
	case *destinationpb.ProtocolHint_Opaque_:
		e.Hint = model.HintOpaque
	}
	if p := w.GetProtocolHint().GetOpaqueTransport().GetInboundPort(); p > 0 && p < 65535 {
		e.TransportPort = uint16(p)
	}
	if a := w.GetAuthorityOverride().GetAuthorityOverride(); isAuthority(a) {
		e.Authority = a
	}
	switch z, _ := e.Labels.Get("zone_locality"); strings.ToLower(z) {
	case "local":
		e.Zone = model.LocalityLocal
	case "remote":
		e.Zone = model.LocalityRemote
	}
	return e, true
}

func tlsIdentity(t *destinationpb.TlsIdentity) model.TLSIdentity {
	name := ""
	if n := t.GetServerName().GetName(); n != "" {
		var err error
		if name, err = model.ParseDNSName(n); err != nil {
			return model.TLSIdentity{}
		}
	}
	switch s := t.GetStrategy().(type) {
	case *destinationpb.TlsIdentity_DnsLikeIdentity_:
		id, err := model.ParseDNSIdentity(s.DnsLikeIdentity.GetName())
		if err != nil {
			return model.TLSIdentity{}
		}
		if name == "" {
			name = id.String()
		}
		return model.TLSIdentity{ID: id, ServerName: name}
	case *destinationpb.TlsIdentity_UriLikeIdentity_:
		id, err := model.ParseURIIdentity(s.UriLikeIdentity.GetUri())
		// A URI is nothing that could be sent as SNI.
		if err != nil || name == "" {
			return model.TLSIdentity{}
		}
		return model.TLSIdentity{ID: id, ServerName: name}
	}
	return model.TLSIdentity{}
}

func http2Params(p *destinationpb.Http2ClientParams) model.HTTP2Params {
	var out model.HTTP2Params
	if f := p.GetFlowControl(); f.GetAdaptiveFlowControl() {
		out.Adaptive = true
	} else if f.GetInitialConnectionWindowSize() > 0 && f.GetInitialStreamWindowSize() > 0 {
		out.ConnectionWindow, out.StreamWindow = f.GetInitialConnectionWindowSize(), f.GetInitialStreamWindowSize()
	}
	if k := p.GetKeepAlive(); k != nil {
		interval, err1 := duration(k.GetInterval(), "interval")
		timeout, err2 := duration(k.GetTimeout(), "timeout")
		if err1 == nil && err2 == nil && interval > 0 && timeout > 0 {
			out.KeepAliveInterval, out.KeepAliveTimeout, out.KeepAliveWhileIdle = interval, timeout, k.GetWhileIdle()
		}
	}
	i := p.GetInternals()
	out.MaxConcurrentResetStreams = i.GetMaxConcurrentResetStreams()
	out.MaxFrameSize = i.GetMaxFrameSize()
	out.MaxSendBufSize = i.GetMaxSendBufSize()
	return out
}

// isAuthority reports whether s is a host, or host and port.
func isAuthority(s string) bool {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host = s[:i]
		port := s[i+1:]
		n := 0
		for j := range len(port) {
			if port[j] < '0' || port[j] > '9' || n > 65535 {
				return false
			}
			n = n*10 + int(port[j]-'0')
		}
		if port == "" || n > 65535 {
			return false
		}
	}
	if _, err := model.ParseDNSName(host); err == nil {
		return true
	}
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil
}
