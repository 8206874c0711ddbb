package authz

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestAuthorize(t *testing.T) {
	networks := func(cidr string, except ...string) []model.Network {
		n := model.Network{Net: netip.MustParsePrefix(cidr)}
		for _, e := range except {
			n.Except = append(n.Except, netip.MustParsePrefix(e))
		}
		return []model.Network{n}
	}
	client := func(addr string, tls bool, id string) Client {
		c := Client{Addr: netip.MustParseAddr(addr), TLS: tls}
		for i, name := range strings.Fields(id) {
			if i == 0 {
				c.ID = model.MustIdentity(name)
			} else {
				c.Others = append(c.Others, model.MustIdentity(name))
			}
		}
		return c
	}
	anyone := model.Authorization{Meta: model.Default("anyone"), Networks: networks("10.0.0.0/8", "10.9.0.0/16"), Authn: model.Authentication{Kind: model.AuthnNone}}
	meshed := model.Authorization{Meta: model.Default("meshed"), Networks: model.AnyNetworks(), Authn: model.Authentication{Kind: model.AuthnTLS}}
	named := model.Authorization{Meta: model.Default("named"), Networks: model.AnyNetworks(), Authn: model.Authentication{
		Kind:       model.AuthnIdentity,
		Identities: []model.Identity{model.MustIdentity("a.x.id"), model.MustIdentity("spiffe://td/b")},
		Suffixes:   []string{"y.id"},
	}}
	authenticated := model.Authorization{Meta: model.Default("authenticated"), Networks: model.AnyNetworks(),
		Authn: model.Authentication{Kind: model.AuthnIdentity, Suffixes: []string{""}}}
	local := model.LocalhostAuthorization()
	list := func(a ...model.Authorization) []model.Authorization { return a }

	for _, c := range []struct {
		name          string
		client        Client
		route, server []model.Authorization
		by            string
		reason        Reason
	}{
		{"nobody", client("10.0.0.1", true, "a.x.id"), nil, nil, "", NoAuthorization},
		{"network", client("10.0.0.1", false, ""), nil, list(anyone), "anyone", Permitted},
		{"mapped address", client("::ffff:10.0.0.1", false, ""), nil, list(anyone), "anyone", Permitted},
		{"excepted", client("10.9.0.1", false, ""), nil, list(anyone), "", NetworkNotPermitted},
		{"outside", client("192.168.0.1", false, ""), nil, list(anyone), "", NetworkNotPermitted},
		{"tls without id", client("1.2.3.4", true, ""), nil, list(meshed), "meshed", Permitted},
		{"plain", client("1.2.3.4", false, ""), nil, list(meshed), "", NotMeshed},
		{"exact id", client("1.2.3.4", true, "a.x.id"), nil, list(named), "named", Permitted},
		{"exact uri", client("1.2.3.4", true, "spiffe://td/b"), nil, list(named), "named", Permitted},
		{"suffix", client("1.2.3.4", true, "q.y.id"), nil, list(named), "named", Permitted},
		{"suffix itself", client("1.2.3.4", true, "y.id"), nil, list(named), "", IdentityNotPermitted},
		{"suffix within label", client("1.2.3.4", true, "qy.id"), nil, list(named), "", IdentityNotPermitted},
		{"no id", client("1.2.3.4", true, ""), nil, list(named), "", NotIdentified},
		{"plain for id", client("1.2.3.4", false, ""), nil, list(named), "", NotMeshed},
		{"any id", client("1.2.3.4", true, "q.z"), nil, list(authenticated), "authenticated", Permitted},
		{"any spiffe id", client("1.2.3.4", true, "spiffe://td/c"), nil, list(authenticated), "authenticated", Permitted},
		{"trust domain in suffix", client("1.2.3.4", true, "spiffe://td.y.id/c"), nil, list(named), "named", Permitted},
		{"trust domain is the suffix", client("1.2.3.4", true, "spiffe://y.id/c"), nil, list(named), "", IdentityNotPermitted},
		{"path of a spiffe id", client("1.2.3.4", true, "spiffe://td/c.y.id"), nil, list(named), "", IdentityNotPermitted},
		{"another uri", client("1.2.3.4", true, "https://td.y.id/c"), nil, list(named), "", IdentityNotPermitted},
		{"second name", client("1.2.3.4", true, "spiffe://td/c a.x.id"), nil, list(named), "named", Permitted},
		{"last name, by suffix", client("1.2.3.4", true, "z.id spiffe://td/c q.y.id"), nil, list(named), "named", Permitted},
		{"none of the names", client("1.2.3.4", true, "z.id spiffe://td/c"), nil, list(named), "", IdentityNotPermitted},
		{"route first", client("10.0.0.1", true, "a.x.id"), list(named), list(anyone), "named", Permitted},
		{"server after route", client("10.0.0.1", true, "z.id"), list(named), list(anyone), "anyone", Permitted},
		{"first of several", client("10.0.0.1", true, "a.x.id"), nil, list(meshed, anyone), "meshed", Permitted},
		{"localhost", client("127.0.0.1", false, ""), nil, list(named, local), "localhost", Permitted},
		{"localhost v6", client("::1", false, ""), nil, list(named, local), "localhost", Permitted},
		{"only /32", client("127.0.0.2", false, ""), nil, list(local), "", NetworkNotPermitted},
		{"closest miss", client("192.168.0.1", true, "q.z"), nil, list(named, anyone), "", IdentityNotPermitted},
	} {
		by, reason := Authorize(c.client, c.route, c.server)
		got := ""
		if by != nil {
			got = by.Meta.Name
		}
		if got != c.by || reason != c.reason {
			t.Errorf("%s: %q (%v), want %q (%v)", c.name, got, reason, c.by, c.reason)
		}
	}
}
