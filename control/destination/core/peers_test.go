package core

import (
	"net/netip"
	"testing"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// nothing is a Lookup that finds nothing.
type nothing struct{ Lookup }

func (nothing) Owners(string, Owner) []Owner   { return nil }
func (nothing) OpaqueServers(string) []*Server { return nil }

// TestPeers: pods of another control plane have an identity if we are told that it shares the trust anchors, and never one of
// ours.
func TestPeers(t *testing.T) {
	c := &Config{ControllerNamespace: "linkerd", TrustDomain: "cluster.local", Peers: []string{"mesh-b", "mesh-c"}}
	for controlPlane, want := range map[string]string{
		"linkerd": "web.shop.serviceaccount.identity.linkerd.cluster.local",
		"mesh-b":  "web.shop.serviceaccount.identity.mesh-b.cluster.local",
		"mesh-d":  "",
		"":        "",
	} {
		pod := &Pod{ID: ID{Namespace: "shop", Name: "web-1"}, ServiceAccount: "web", Labels: map[string]string{names.LabelControlPlaneNS: controlPlane}}
		e := c.podEndpoint(nothing{}, pod, netip.MustParseAddrPort("10.0.0.1:80"))
		if e.Identity.DNS != want || e.Identity.ServerName != want {
			t.Errorf("a pod of control plane %q has identity %+v, want %s", controlPlane, e.Identity, want)
		}
	}
}
