package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestDispatch(t *testing.T) {
	for _, c := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"nothing", []string{"/linkerd-controller"}, exitUsage, "", "usage: linkerd-controller COMMAND"},
		{"help", []string{"linkerd-controller", "--help"}, exitOK, "destination", ""},
		{"unknown", []string{"linkerd-controller", "fly"}, exitUsage, "", `unknown command "fly"`},
		{"version", []string{"linkerd-controller", "destination", "-version"}, exitOK, "dev-undefined\n", ""},
		{"version with two dashes", []string{"linkerd-controller", "identity", "--version"}, exitOK, "dev-undefined\n", ""},
		{"help of a command", []string{"linkerd-controller", "identity", "-help"}, exitOK, "", "-identity-trust-domain"},
		{"unknown flag", []string{"linkerd-controller", "identity", "-fly"}, exitUsage, "", "flag provided but not defined: -fly"},
		{"bad log level", []string{"linkerd-controller", "identity", "-log-level=loud"}, exitFailed, "", "identity: log level"},
		{"identity switched off", []string{"linkerd-controller", "identity", "-log-format=json"}, exitOK, "", "identity disabled"},
		{"no certificate", []string{"linkerd-controller", "sp-validator"}, exitFailed, "", "loading webhook certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer slog.SetDefault(slog.Default())
			var stdout, stderr bytes.Buffer
			if code := dispatch(t.Context(), c.args, &stdout, &stderr); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("got %q and %q, want %q and %q in them", stdout.String(), stderr.String(), c.stdout, c.stderr)
			}
		})
	}
}

func TestDestinationFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		err  string
	}{
		{"defaults", nil, ""},
		{"what the chart passes", []string{
			"-addr=:8086", "-controller-namespace=linkerd", "-outbound-transport-mode=transport-header", "-enable-h2-upgrade=true",
			"-log-level=info", "-log-format=plain", "-enable-endpoint-slices=true", "-cluster-domain=cluster.local",
			"-identity-trust-domain=cluster.local", "-default-opaque-ports=25,587,3306,4444,5432,6379,9300,11211",
			"-enable-ipv6=false", "-enable-pprof=false",
			`--meshed-http2-client-params={"keep_alive":{"interval":{"seconds":10},"timeout":{"seconds":3},"while_idle":true}}`,
		}, ""},
		{"IPv6 without slices", []string{"-enable-endpoint-slices=false"}, "-enable-ipv6 needs -enable-endpoint-slices"},
		{"no queue", []string{"-stream-queue-capacity=0"}, "must be greater than 0"},
		{"bad JSON", []string{"-meshed-http2-client-params={"}, "-meshed-http2-client-params"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o destinationOptions
			if err := o.flags().Parse(c.args); err != nil {
				t.Fatal(err)
			}
			params, err := o.validate(slog.New(slog.DiscardHandler))
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if c.name == "what the chart passes" {
				if !o.config.TransportHeader || !o.config.DefaultOpaque.Has(3306) || o.config.IPv6 {
					t.Errorf("got %+v", o.config)
				}
				if got := params.GetKeepAlive(); got.GetInterval().AsDuration() != 10*time.Second || !got.GetWhileIdle() {
					t.Errorf("got %v", params)
				}
			}
		})
	}
}

func TestIdentityFlags(t *testing.T) {
	var o identityOptions
	err := o.flags().Parse([]string{
		"-identity-scheme=linkerd.io/tls", "-identity-issuance-lifetime=48h0m0s", "-identity-clock-skew-allowance=soon", "-issuer=/i",
		"-kube-apiclient-qps=100", "-kube-apiclient-burst=200",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := o.files(); got.Cert != "/i/crt.pem" || got.Key != "/i/key.pem" {
		t.Errorf("got %+v", got)
	}
	o.scheme = "kubernetes.io/tls"
	if got := o.files(); got.Cert != "/i/tls.crt" || got.Key != "/i/tls.key" {
		t.Errorf("got %+v", got)
	}
	if got := o.lifetimes(slog.New(slog.DiscardHandler)); got.Issuance != 48*time.Hour || got.ClockSkew != 10*time.Second {
		t.Errorf("got %+v", got)
	}
}
