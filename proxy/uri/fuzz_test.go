package uri

import (
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// FuzzNormalize: whatever clients put into targets and Host fields, a request that
// is let through has an authority that can be taken apart again, and normalising
// it once more changes nothing.
func FuzzNormalize(f *testing.F) {
	f.Add("web:80", "", "/", "10.0.0.1:80")
	f.Add("", "web.ns.svc.cluster.local", "/a?b", "")
	f.Add("", "[::1]:8080", "*", "")
	f.Add("user:pw@h", "a,b", "//", "x")
	f.Fuzz(func(t *testing.T, authority, host, path, def string) {
		h := &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte("GET"), Authority: []byte(authority), Path: []byte(path)}
		if host != "" {
			h.Add("host", host)
		}
		if Normalize(h, def) != nil {
			return
		}
		before := string(h.Authority)
		if Split(h.Authority); len(h.Authority) == 0 {
			t.Fatal("no authority and no error")
		}
		if name, _, ok := NamePort(h.Authority, 80); ok && !Name(name) {
			t.Errorf("%q has the name %q", h.Authority, name)
		}
		if err := Normalize(h, def); err != nil || string(h.Authority) != before {
			t.Errorf("%q became %q, %v", before, h.Authority, err)
		}
	})
}
