package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestPolicyFromTraffic goes the way of an operator who turns a namespace in
// which everybody may do everything into one in which only those get in who
// were seen: proposal, audit, enforcement; and asks at each step who gets in,
// and why.
func TestPolicyFromTraffic(t *testing.T) {
	w := newWorld(t, injected, patient)
	w.shop(20)
	w.traffic("traffic before there is a policy", 200)
	generate := func(flags string) string {
		t.Helper()
		return w.must("linkerd policy generate -n " + w.ns + " " + flags + " 2>/dev/null")
	}
	servers := []struct{ app, port, protocol string }{
		{"front", "8080", "(?:HTTP/1|unknown)"}, {"catalog", "8080", "gRPC"}, {"checkout", "8080", "gRPC"}, {"ledger", "7070", "opaque"},
	}
	// count adds up an authorization counter over the shop's servers.
	count := func(family string, labels ...string) float64 {
		var n float64
		for _, s := range servers {
			for _, p := range w.pods("app=" + s.app) {
				n += w.metrics(p.Name).sum(family, append([]string{"target_port", s.port}, labels...)...)
			}
		}
		return n
	}

	var proposal string
	w.run("generate proposes the clients that were seen", func(w *world) {
		t := w.t
		w.eventually(patience, "every edge of the shop to be seen", func() error {
			proposal = generate("")
			for _, s := range servers {
				if !strings.Contains(proposal, "name: "+s.app+"-"+s.port+"\n") {
					return fmt.Errorf("nothing about %s yet", s.app)
				}
			}
			for _, edge := range []string{"front-8080 traffic", "catalog-8080 front", "catalog-8080 checkout", "catalog-8080 stocktake", "checkout-8080 front", "ledger-7070 checkout"} {
				name, client, _ := strings.Cut(edge, " ")
				if !find(proposal, `kind: MeshTLSAuthentication\nmetadata:\n(?:  .*\n)*  name: `+name+`\n(?:  .*\n)*spec:\n(?:  .*\n)*    name: `+client+`\n`) {
					return fmt.Errorf("%s is not a client of %s in\n%s", client, name, proposal)
				}
			}
			return nil
		})
		for _, s := range servers {
			if !find(proposal, `kind: Server\nmetadata:\n(?:  .*\n)*  name: `+s.app+`-`+s.port+`\n(?:  .*\n)*spec:\n  accessPolicy: audit\n(?:  .*\n)*  proxyProtocol: `+s.protocol+`\n`) {
				t.Errorf("no Server of %s in audit with protocol %s in\n%s", s.app, s.protocol, proposal)
			}
		}
		w.eventually(patience, "two runs to propose the same", func() error {
			// Another client's connection may be seen for the first time in between.
			if again := generate(""); again != proposal {
				first := proposal
				proposal = again
				return fmt.Errorf("first\n%s\nthen\n%s", first, again)
			}
			return nil
		})
		report := w.must("linkerd policy generate -n " + w.ns + " 2>&1 >/dev/null")
		if !find(report, `deployment front: 2 proxies have counted for `) || !find(report, `port 8080 \(http\): HTTP from traffic\.`) {
			t.Errorf("the report is\n%s", report)
		}
	})

	w.run("in audit nothing fails and nobody has to be audited", func(w *world) {
		t := w.t
		w.apply(proposal)
		w.eventually(patience, "requests by the new policies", func() error {
			for _, s := range servers {
				var n float64
				for _, p := range w.pods("app=" + s.app) {
					n += w.metrics(p.Name).sum("inbound_http_authz_allow_total", "authz_kind", "authorizationpolicy", "authz_name", s.app+"-"+s.port)
				}
				if n == 0 && s.protocol != "opaque" {
					return fmt.Errorf("none at %s", s.app)
				}
			}
			return nil
		})
		audited := count("inbound_http_authz_allow_total", "authz_name", "audit")
		denied := count("inbound_http_authz_deny_total") + count("inbound_tcp_authz_deny_total") + count("inbound_tcp_authz_terminate_total")
		w.traffic("traffic in audit", 200)
		if n := count("inbound_http_authz_allow_total", "authz_name", "audit"); n != audited {
			t.Errorf("%v requests are audited, whose clients the proposal should have", n-audited)
		}
		if n := count("inbound_http_authz_deny_total") + count("inbound_tcp_authz_deny_total") + count("inbound_tcp_authz_terminate_total"); n != denied {
			t.Errorf("%v are refused", n-denied)
		}
		if again := generate(""); again != proposal {
			t.Errorf("with the proposal applied another one is made:\n%s\nfirst\n%s", again, proposal)
		}
		w.explains("authz deploy/front --port 8080 --from unauthenticated", `^audited: a client outside of the mesh reaches port 8080 of pod `+w.ns+`/front-\S+, by Server `+w.ns+`/front-8080`)
	})

	w.run("enforced nothing fails and who was not seen is refused", func(w *world) {
		t := w.t
		enforced := generate("--enforce")
		// In audit the outsider still gets in, and is counted.
		w.apply(client("outsider", "http://front:8080", 20, "linkerd.io/inject: disabled"))
		w.available("outsider")
		w.eventually(patience, "answers to the outsider", func() error {
			if s := w.stats("outsider"); s.OK < 20 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		if count("inbound_http_authz_allow_total", "authz_name", "audit", "tls", "no_identity") == 0 {
			t.Error("the outsider is not audited")
		}
		w.apply(enforced)
		w.eventually(patience, "refusals of the outsider", func() error {
			if s := w.stats("outsider"); s.Errors["403 Forbidden"] < 20 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		w.traffic("traffic under enforcement", 200)
		// One of the two proxies of the front may know of it sooner than the other.
		w.reset("outsider")
		w.eventually(patience, "nothing but refusals of the outsider", func() error {
			s := w.stats("outsider")
			if s.OK > 0 {
				w.reset("outsider")
			}
			if s.OK > 0 || s.Errors["403 Forbidden"] < 40 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	})

	w.run("authz says why and names the resources", func(w *world) {
		w.explains("authz deploy/front --from deploy/outsider",
			`^denied: a client outside of the mesh at \S+ is refused at port 8080 of pod `+w.ns+`/front-\S+: it is not TLS, and an identity is asked for by AuthorizationPolicy `+w.ns+`/front-8080`,
			`the same for pods front-`)
		w.explains("authz deploy/front --from deploy/outsider --explain",
			`× AuthorizationPolicy `+w.ns+`/front-8080: for Server front-8080: does not let the client in\n +× MeshTLSAuthentication `+w.ns+`/front-8080: the client is not TLS`,
			`the client gets: HTTP 403`)
		w.explains("authz deploy/front --from deploy/traffic", `^allowed: ServiceAccount `+w.ns+`/traffic at \S+ reaches port 8080 of pod \S+, by AuthorizationPolicy `+w.ns+`/front-8080`)
		w.explains("authz deploy/ledger --from sa/front", `^denied: ServiceAccount `+w.ns+`/front is refused at port 7070 of pod \S+: its identity is not among those of AuthorizationPolicy `+w.ns+`/ledger-7070`)
	})

	w.run("diagnostics policy explains a call a route and a mistake", func(w *world) {
		t := w.t
		w.explains("diagnostics policy deploy/catalog grpc --from deploy/front --path /shop.v1.Catalog/List",
			`^allowed: ServiceAccount `+w.ns+`/front at \S+ gets through with POST /shop.v1.Catalog/List to port 8080 of pod \S+, by AuthorizationPolicy `+w.ns+`/catalog-8080`,
			`√ Server `+w.ns+`/catalog-8080: is for port 8080: podSelector app=catalog, port 8080; proxyProtocol gRPC, accessPolicy deny`)
		w.explains("diagnostics policy deploy/catalog 8080 --from deploy/front --method GET --path /x", `^no route: `, `the client gets: HTTP 404`)
		w.explains("diagnostics policy svc/catalog 8080 --explain", `^port 8080 of Service `+w.ns+`/catalog: no route is attached`, `port 8080 is taken as HTTP/2: the Service's appProtocol says so`)
		w.explains("diagnostics policy svc/checkout 8080 --from deploy/traffic --method POST --path /shop.v1.Checkout/Place",
			`^allowed: POST /shop.v1.Checkout/Place to port 8080 of Service `+w.ns+`/checkout goes by `,
			`^denied: ServiceAccount `+w.ns+`/traffic at \S+ is refused with POST /shop.v1.Checkout/Place at port 8080 of pod `)
		w.must("kubectl -n " + w.ns + " delete meshtlsauthentication front-8080")
		w.eventually(patience, "the missing authentication to be named", func() error {
			out := w.must("linkerd diagnostics policy -n " + w.ns + " deploy/front 8080 --from deploy/traffic")
			if !find(out, `‼ AuthorizationPolicy `+w.ns+`/front-8080: for Server front-8080: has no effect, for there is no MeshTLSAuthentication `+w.ns+`/front-8080`) || !strings.HasPrefix(out, "denied:") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		if out := w.fails("linkerd diagnostics policy -n " + w.ns + " deploy/front nonsense --from deploy/traffic"); !strings.Contains(out, `has no port "nonsense"; it has http`) {
			t.Errorf("a port that is not there: %s", out)
		}
		if out := w.fails("linkerd authz -n " + w.ns + " deploy/front --from deploy/nobody"); !strings.Contains(out, "there is no deployment nobody in namespace "+w.ns) {
			t.Errorf("a client that is not there: %s", out)
		}
	})

	w.run("what was proposed can be taken away by its label", func(w *world) {
		w.must("kubectl -n " + w.ns + " delete server,authorizationpolicy,meshtlsauthentication,networkauthentication -l app.kubernetes.io/managed-by=linkerd-policy-generate")
		w.eventually(patience, "the outsider to get in again", func() error {
			if s := w.stats("outsider"); s.OK == 0 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	})
}

// traffic resets the load generator, waits for n answers and fails if any
// request failed.
func (w *world) traffic(what string, n uint64) {
	w.t.Helper()
	w.reset("traffic")
	w.eventually(patience, what, func() error {
		if s := w.stats("traffic"); s.Sent < n {
			return fmt.Errorf("%d requests so far", s.Sent)
		}
		return nil
	})
	if s := w.stats("traffic"); s.Failed > 0 {
		w.t.Errorf("%s: %d of %d failed: %v", what, s.Failed, s.Sent, s.Errors)
	}
}

// explains runs a linkerd command in the test's namespace; what it prints has to
// match the expressions.
func (w *world) explains(line string, want ...string) {
	w.t.Helper()
	out := w.must("linkerd " + line + " -n " + w.ns)
	for _, expression := range want {
		if !find(out, "(?m)"+expression) {
			w.t.Errorf("$ linkerd %s\nno line like %q in\n%s", line, expression, out)
		}
	}
}
