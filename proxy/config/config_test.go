package config

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// minimal is what every configuration needs; cases override it.
var minimal = map[string]string{
	"LINKERD2_PROXY_DESTINATION_SVC_ADDR":   "linkerd-dst-headless.linkerd.svc.cluster.local.:8086",
	"LINKERD2_PROXY_DESTINATION_SVC_NAME":   "linkerd-destination.linkerd",
	"LINKERD2_PROXY_POLICY_SVC_ADDR":        "localhost.:8090",
	"LINKERD2_PROXY_POLICY_WORKLOAD":        `{"ns":"a","pod":"b"}`,
	"LINKERD2_PROXY_IDENTITY_DIR":           "/identity",
	"LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS": "PEM",
	"LINKERD2_PROXY_IDENTITY_TOKEN_FILE":    "/token",
	"LINKERD2_PROXY_IDENTITY_LOCAL_NAME":    "web.ns.serviceaccount.identity.linkerd.cluster.local",
	"LINKERD2_PROXY_IDENTITY_SVC_ADDR":      "127.0.0.1:8080",
	"LINKERD2_PROXY_INBOUND_DEFAULT_POLICY": "all-unauthenticated",
}

func load(env map[string]string) (*Config, *Problems) {
	return Load(func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}, 4)
}

// TestFiles reads testdata/*.env: lines NAME=value change the minimal
// environment ("NAME=" alone sets the empty value, "-NAME" removes one), names
// without the prefix of the proxy get it. The rest of the file, after a line
// "---", has what is expected: an error or warning per line, or "field value".
func TestFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.env")
	if len(files) == 0 {
		t.Fatal("no cases")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".env"), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			env := map[string]string{}
			for k, v := range minimal {
				env[k] = v
			}
			var want []string
			expecting := false
			for lines := bufio.NewScanner(f); lines.Scan(); {
				line := lines.Text()
				switch {
				case strings.HasPrefix(line, "#"), line == "":
				case line == "---":
					expecting = true
				case expecting:
					want = append(want, line)
				case strings.HasPrefix(line, "-"):
					delete(env, prefix+line[1:])
				default:
					k, v, _ := strings.Cut(line, "=")
					env[prefix+k] = v
				}
			}
			cfg, problems := load(env)
			facts := describe(cfg)
			var got []string
			for _, e := range problems.Errors {
				got = append(got, "error: "+e.Error())
			}
			for _, w := range problems.Warnings {
				got = append(got, "warning: "+w)
			}
			for _, w := range want {
				if name, _, ok := strings.Cut(w, " "); ok && facts[name] != "" {
					got = append(got, name+" "+facts[name])
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// describe gives the fields that cases ask for.
func describe(c *Config) map[string]string {
	f := map[string]string{}
	for name, v := range map[string]any{
		"outbound.addrs": c.Outbound.Addrs, "inbound.addr": c.Inbound.Addr, "inbound.detect": c.Inbound.DetectTimeout,
		"outbound.connect": c.Outbound.ConnectTimeout, "inbound.connect": c.Inbound.ConnectTimeout,
		"inbound.backoff": c.Inbound.ConnectBackoff, "outbound.backoff": c.Outbound.ConnectBackoff,
		"outbound.quiet": c.Outbound.Quiet, "opaque": c.Inbound.OpaquePorts, "ips": c.Inbound.IPs,
		"workers": c.Workers.Count, "destination": c.Destination, "policy": c.Policy, "identity": c.Identity.Controller,
		"suffixes": c.Outbound.ProfileSuffixes, "spire": c.Identity.SPIRE, "spire.federated": c.Identity.SPIREFederated, "access": c.Log.Access, "outbound.access": c.Log.OutboundAccess, "json": c.Log.JSON,
		"h2.windows":   fmt.Sprint(c.Inbound.Server.StreamWindow, c.Inbound.Server.ConnWindow),
		"h2.keepalive": fmt.Sprint(c.Inbound.Server.KeepAliveInterval, c.Inbound.Server.KeepAliveTimeout),
		"streams":      c.Streams, "failfast": c.Outbound.HTTPQueue, "inbound.idle": c.Inbound.MaxIdleConns,
		"trace.sample": c.Trace.Sample, "trace.http": c.Trace.HTTP, "forwarded": c.Inbound.ForwardedFor,
		"proxied":        c.Inbound.ProxyProtocolPorts,
		"shutdown.bytes": c.ShutdownBytes,
	} {
		f[name] = fmt.Sprint(v)
	}
	return f
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "10ms": 10 * time.Millisecond, " 3s ": 3 * time.Second, "5m": 5 * time.Minute,
		"1h": time.Hour, "365d": 365 * 24 * time.Hour,
	} {
		if got, err := Duration(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "1", "-1s", "1.5s", "1 s", "s", "1us", "999999999999999999d", "1S", "+1s"} {
		if got, err := Duration(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}

func TestSuffixes(t *testing.T) {
	for _, c := range []struct {
		suffixes, name string
		want           bool
	}{
		{"svc.cluster.local.", "web.ns.svc.cluster.local", true},
		{"svc.cluster.local.", "Web.Ns.SVC.cluster.local.", true},
		{"svc.cluster.local", "svc.cluster.local", true},
		{"svc.cluster.local.", "xsvc.cluster.local", false},
		{".", "example.com", true},
		{"a.b,c.d", "x.c.d", true},
		{"", "example.com", false},
	} {
		s, err := suffixes(c.suffixes)
		if err != nil || s.Match(c.name) != c.want {
			t.Errorf("%q %q: got %v, %v", c.suffixes, c.name, s.Match(c.name), err)
		}
	}
}
