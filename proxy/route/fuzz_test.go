package route

import (
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// FuzzFind feeds requests as clients may send them to routes that use every
// kind of match and filter: nothing may panic, and the result must be one of
// the routes.
func FuzzFind(f *testing.F) {
	f.Add("GET", "", "", "/", "", "")
	f.Add("POST", "http", "a.example.com:80", "/a.B/C?q=%zz&n=1+2&=&", "x", "1")
	f.Add("OPTIONS", "", "[::1]", "*", "host", "a.b.")
	f.Add("CONNECT", "", "u@h:x:9", "", "host", ":")
	f.Fuzz(func(t *testing.T, method, scheme, authority, path, name, value string) {
		h := &exchange.RequestHead{Method: []byte(method), Scheme: []byte(scheme), Authority: []byte(authority), Path: []byte(path)}
		h.Add(name, value)
		for _, grpc := range []bool{false, true} {
			rs := routes(t, grpc, "a a.example.com *.b|prefix=/a header:x=1|regex=/[a-c]+", "b|path=/b query:n~[0-9]+ GET", "c|svc=a.B rpc=C", "d")
			found, ok := Find(rs, h)
			if !ok {
				continue
			}
			if found.Route != &rs.List[found.RouteIndex] || found.Rule != &found.Route.Rules[found.RuleIndex] {
				t.Error("indices are wrong")
			}
			for _, r := range []model.Redirect{{Scheme: "https"}, {Host: "x", Port: 81}, {Path: model.PathModifier{Full: "/y"}}, {Path: model.PathModifier{HasPrefix: true, Prefix: "/z"}}} {
				loc, _, err := Location(&r, found.Match, h)
				if err == nil && !strings.Contains(loc, "://") {
					t.Errorf("location %q", loc)
				}
			}
		}
		FindSNI([]model.TCPRoute{{SNIs: []model.HostMatch{{Name: "b", Suffix: true}}}}, authority)
		Params(&model.Rule{AllowHeaders: true}, h)
	})
}
