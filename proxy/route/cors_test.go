package route

import (
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestRewrite(t *testing.T) {
	prefix := &model.Match{Path: model.PathMatch{Kind: model.PathPrefix, Value: "/old"}}
	for _, c := range []struct {
		req  string
		r    model.Rewrite
		m    *model.Match
		want string // authority, path, host field; or the error
	}{
		{"GET http://a.b/old/x?q=1 host=a.b", model.Rewrite{Path: model.PathModifier{HasPrefix: true, Prefix: "/new"}}, prefix, "a.b /new/x?q=1 a.b"},
		{"GET http://a.b/old host=a.b", model.Rewrite{Path: model.PathModifier{HasPrefix: true, Prefix: "/"}}, prefix, "a.b / a.b"},
		{"GET http://a.b/old/x host=a.b", model.Rewrite{Path: model.PathModifier{HasPrefix: true, Prefix: "/"}}, prefix, "a.b /x a.b"},
		{"GET http://a.b/old/x?q=1 host=a.b", model.Rewrite{Path: model.PathModifier{Full: "/all"}}, prefix, "a.b /all?q=1 a.b"},
		{"GET http://a.b:80/old host=a.b:80", model.Rewrite{Host: "c.d"}, prefix, "c.d /old c.d"},
		{"OPTIONS http://a.b* host=a.b", model.Rewrite{Path: model.PathModifier{Full: "/all"}}, nil, ""},
		{"GET http://a.b/x host=a.b", model.Rewrite{Path: model.PathModifier{HasPrefix: true, Prefix: "/new"}}, nil, "invalid rewrite"},
	} {
		h := head(c.req)
		h.Version = exchange.HTTP11
		if c.want == "" {
			h.Path, c.want = []byte("*"), "a.b* * a.b"
		}
		v := Apply([]model.Filter{{Kind: model.FilterRewrite, Rewrite: &c.r}}, Found{Match: c.m}, h, nil)
		got := v.Message
		if v.Action == Continue {
			got = string(h.Authority) + " " + string(h.Path) + " " + string(h.Get("host"))
		}
		if got != c.want {
			t.Errorf("%s %+v: %q, want %q", c.req, c.r, got, c.want)
		}
	}
}

func TestCORS(t *testing.T) {
	some := &model.CORS{
		Origins: []model.Origin{
			{Scheme: "https", Host: "a.example", Port: 443},
			{Scheme: "http", Host: ".b.example", Wildcard: true, Port: 8080},
		},
		Methods: "GET, PUT", Headers: "x-a", Expose: "x-b", MaxAge: "60",
	}
	secret := *some
	secret.Credentials, secret.AnyMethod, secret.AnyHeader, secret.AnyOrigin = true, true, true, true
	anyone := &model.CORS{AnyOrigin: true, MaxAge: "5"}
	const ask = " access-control-request-method=PUT access-control-request-headers=X-A"
	const allowed = "access-control-allow-methods=GET, PUT access-control-allow-headers=x-a access-control-max-age=60"
	for _, c := range []struct {
		name string
		cors *model.CORS
		req  string
		// preflight is what is answered, "passes" if the request goes on;
		// response are the fields of a response to it.
		preflight, response string
	}{
		{"exact", some, "OPTIONS http://x/ origin=https://a.example" + ask, "access-control-allow-origin=https://a.example vary=origin " + allowed,
			"vary=origin access-control-allow-origin=https://a.example access-control-expose-headers=x-b"},
		{"default port", some, "OPTIONS http://x/ origin=https://A.Example:443" + ask, "access-control-allow-origin=https://A.Example:443 vary=origin " + allowed,
			"vary=origin access-control-allow-origin=https://A.Example:443 access-control-expose-headers=x-b"},
		{"subdomains", some, "GET http://x/ origin=http://c.d.b.example:8080", "passes",
			"vary=origin access-control-allow-origin=http://c.d.b.example:8080 access-control-expose-headers=x-b"},
		{"not the domain itself", some, "GET http://x/ origin=http://b.example:8080", "passes", "vary=origin"},
		{"another port", some, "OPTIONS http://x/ origin=http://c.b.example" + ask, "vary=origin", "vary=origin"},
		{"another scheme", some, "GET http://x/ origin=http://a.example", "passes", "vary=origin"},
		{"no origin at all", some, "GET http://x/ origin=null", "passes", "vary=origin"},
		{"any", anyone, "OPTIONS http://x/ origin=http://z" + ask, "access-control-allow-origin=* access-control-max-age=5", "access-control-allow-origin=*"},
		{"any with credentials", &secret, "OPTIONS http://x/ origin=http://z" + ask,
			"access-control-allow-origin=http://z vary=origin access-control-allow-credentials=true access-control-allow-methods=PUT access-control-allow-headers=X-A access-control-max-age=60",
			"vary=origin access-control-allow-origin=http://z access-control-allow-credentials=true access-control-expose-headers=x-b"},
		{"an ordinary OPTIONS", some, "OPTIONS http://x/ origin=https://a.example", "passes",
			"vary=origin access-control-allow-origin=https://a.example access-control-expose-headers=x-b"},
		{"the same origin", some, "GET http://x/", "passes", "access-control-allow-origin=the server's"},
	} {
		h := head(c.req)
		filters := []model.Filter{{Kind: model.FilterCORS, CORS: c.cors}}
		v, got := Apply(filters, Found{}, h, nil), "passes"
		if v.Action == Preflight {
			var fields []string
			for _, f := range v.Headers {
				fields = append(fields, f.Name+"="+f.Value)
			}
			got = strings.Join(fields, " ")
		}
		if got != c.preflight {
			t.Errorf("%s: preflight %q, want %q", c.name, got, c.preflight)
		}
		var resp exchange.ResponseHead
		resp.Add("access-control-allow-origin", "the server's")
		ApplyResponse(filters, h.Get("origin"), &resp)
		var fields []string
		for _, f := range resp.List {
			fields = append(fields, string(f.Name)+"="+string(f.Value))
		}
		if got := strings.Join(fields, " "); got != c.response {
			t.Errorf("%s: response %q, want %q", c.name, got, c.response)
		}
	}
}
