// Package apptest starts whole proxies in the process of a test, as their own
// process would but for what the test puts in place of the kernel.
//
//	cfg := apptest.Config(t, control, ca, id, apptest.Env{"LOG": "info"})
//	var out apptest.Log
//	a, err := app.New(app.Options{Config: cfg, Log: out.Logger(t, cfg), ...})
//	stop := apptest.Run(t, a, id, &out)
//
// All of it belongs to the test's goroutine, but for Log, which any may use.
package apptest

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/identityboot"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

// Env is configuration: variables without the prefix LINKERD2_PROXY_.
type Env map[string]string

// Unset is the value of a variable that Config would set and that is not to be.
const Unset = "unset"

// Config is that of a proxy with an identity whose control plane is given, with
// ports of the loopback that the kernel chooses; env has the last word.
func Config(t testing.TB, control *testcontrol.Server, ca *testca.CA, id string, env ...Env) *config.Config {
	t.Helper()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := identityboot.Write(dir, ca.PEM, id); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := control.Addr().String()
	all := Env{
		"DESTINATION_SVC_ADDR": addr, "POLICY_SVC_ADDR": addr, "IDENTITY_SVC_ADDR": addr,
		"POLICY_WORKLOAD": `{"ns":"ns","pod":"p"}`, "IDENTITY_DIR": dir, "IDENTITY_TOKEN_FILE": token,
		"IDENTITY_TRUST_ANCHORS": string(ca.PEM), "IDENTITY_LOCAL_NAME": id,
		"INBOUND_LISTEN_ADDR": "127.0.0.1:0", "OUTBOUND_LISTEN_ADDR": "127.0.0.1:0", "ADMIN_LISTEN_ADDR": "127.0.0.1:0",
		"INBOUND_DEFAULT_POLICY": "all-unauthenticated", "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8", "LOG": "info",
	}
	for _, e := range env {
		maps.Copy(all, e)
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == Unset })
	cfg, problems := config.Load(func(name string) (string, bool) {
		v, ok := all[strings.TrimPrefix(name, "LINKERD2_PROXY_")]
		return v, ok
	}, 2)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Log collects what a proxy logs.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

// Logger is a log that is collected here.
func (l *Log) Logger(t testing.TB, cfg *config.Config) *logs.Log {
	t.Helper()
	log, err := logs.New(logs.Options{Out: l, Filter: cfg.Log.Filter})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// String is what was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Run runs a proxy until the test ends, or until stop is called, whichever is
// first. The log of a test that failed is shown.
func Run(t testing.TB, a *app.App, name string, out *Log) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, out)
		}
	})
	return stop
}
