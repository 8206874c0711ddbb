package dns

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseConfig(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       config
	}{
		{"empty", "", config{port: "53", ndots: 1, timeout: 5 * time.Second, attempts: 2}},
		{"a pod's", "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.43.0.10\noptions ndots:5\n", config{
			servers: []string{"10.43.0.10"}, port: "53", search: []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local"},
			ndots: 5, timeout: 5 * time.Second, attempts: 2,
		}},
		{"the last of domain and search", "domain a\nsearch b c\ndomain d\n", config{port: "53", search: []string{"d"}, ndots: 1, timeout: 5 * time.Second, attempts: 2}},
		{"options at their limits", "# comment\noptions ndots:99 timeout:0 attempts:-1 rotate edns0 ndots:x\nnameserver\nnameserver ::1\n", config{
			servers: []string{"::1"}, port: "53", ndots: 15, timeout: time.Second, attempts: 1,
		}},
	} {
		got, err := parseConfig(strings.NewReader(c.text))
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	c := config{search: []string{"ns.svc.cluster.local", "cluster.local."}, ndots: 2}
	for host, want := range map[string]string{
		"web.":    "web.",
		"web":     "web.ns.svc.cluster.local. web.cluster.local. web.",
		"web.ns":  "web.ns.ns.svc.cluster.local. web.ns.cluster.local. web.ns.",
		"a.b.c":   "a.b.c. a.b.c.ns.svc.cluster.local. a.b.c.cluster.local.",
		"a.b.c.d": "a.b.c.d. a.b.c.d.ns.svc.cluster.local. a.b.c.d.cluster.local.",
	} {
		if got := strings.Join(c.names(host), " "); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}
