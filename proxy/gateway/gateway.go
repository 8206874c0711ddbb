// Package gateway joins the two directions for multicluster traffic: what a
// peer's proxy sends for a name goes on along the outbound path of this proxy
// (proxy chapter, section 18.2).
//
//	inbound.Config{Gateway: gateway.New(outboundProxy, localID), ...}
//
// The inbound proxy authorizes first, under the policy of its own port. A
// Gateway is safe for concurrent use.
package gateway

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

// Gateway sends what arrives for names along the outbound path.
type Gateway struct {
	out *outbound.Proxy
	id  model.Identity
}

var _ inbound.Gateway = (*Gateway)(nil)

// New makes a gateway over the outbound proxy; id is the local identity, by
// which loops are recognised.
func New(out *outbound.Proxy, id model.Identity) *Gateway { return &Gateway{out, id} }

// errDomain refuses names that the gateway does not serve. The text reaches
// clients.
var errDomain = refusal.NotFound("bad gateway domain").Labeled("gateway domain invalid")

// HTTP gives the handler of a connection for a name.
func (g *Gateway) HTTP(name string, port uint16, client model.Identity) (exchange.Handler, func(), error) {
	next, done, err := g.out.Gateway(name, port)
	if errors.Is(err, lookup.ErrNotDiscovered) {
		return nil, nil, errDomain
	}
	if err != nil {
		return nil, nil, err
	}
	authority := name
	if port != 80 {
		authority += ":" + strconv.Itoa(int(port))
	}
	return &handler{g: g, next: next, client: client, authority: authority}, done, nil
}

// TCP joins a connection with a backend of the name.
func (g *Gateway) TCP(c net.Conn, name string, port uint16) error {
	err := g.out.GatewayTCP(c, name, port)
	if errors.Is(err, lookup.ErrNotDiscovered) {
		return errDomain
	}
	return err
}

// handler serves the requests of one connection.
type handler struct {
	g         *Gateway
	next      exchange.Handler
	client    model.Identity
	authority string
}

// Serve passes a request on, unless it came from here.
func (h *handler) Serve(x *exchange.Exchange) {
	if h.client == h.g.id || Looped(&x.Request.Fields, h.g.id.String()) {
		inbound.Refuse(x, refusal.Loop("gateway loop detected"))
		return
	}
	host := string(x.Request.Authority)
	if host == "" {
		host = h.authority
	}
	x.Request.Add("forwarded", "by="+h.g.id.String()+";for="+h.client.String()+";host="+host+";proto=https")
	if x.Request.Version != exchange.HTTP2 {
		x.Request.Set("host", h.authority)
		x.Request.Authority = x.Request.Keep(h.authority)
	} else if len(x.Request.Authority) == 0 || !uri.Valid(x.Request.Authority) {
		x.Request.Authority = x.Request.Keep(h.authority)
		x.Request.Del("host") // peers refuse one that differs
	}
	h.next.Serve(x)
}

// Looped reports whether a Forwarded element (RFC 7239) says that the request
// passed by id.
func Looped(f *exchange.Fields, id string) bool {
	for i := range f.List {
		if !f.List[i].Is("forwarded") {
			continue
		}
		for element := range bytes.SplitSeq(f.List[i].Value, []byte{','}) {
			for pair := range bytes.SplitSeq(element, []byte{';'}) {
				name, value, ok := strings.Cut(strings.TrimSpace(string(pair)), "=")
				if ok && strings.EqualFold(name, "by") && strings.Trim(value, `"`) == id {
					return true
				}
			}
		}
	}
	return false
}
