package validatorcmd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/redirect/validatorcmd"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// Redirection itself is tested in test/netlab. Here a connection to the
// validator's own address stands for one that was redirected. It is this process's,
// so that two runs on one machine do not meet.
var own = fmt.Sprintf("127.67.%d.%d:4140", os.Getpid()>>8&0xff, os.Getpid()&0xff)

// serve answers each connection on a free port with text; it never closes a
// connection to which it has nothing to say.
func serve(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.66.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, text)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func TestRun(t *testing.T) {
	closed, err := net.Listen("tcp", "127.66.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()

	cases := []struct {
		name string
		args []string
		env  []string
		code int
		log  string // must be in the output
	}{
		{name: "redirected", args: []string{"--listen-addr", own, "--connect-addr", own}, code: 0, log: `level=info msg=Validated`},
		{name: "json", args: []string{"--listen-addr", own, "--connect-addr", own, "--log-format", "json"}, code: 0, log: `"level":"info","msg":"Validated"`},
		{name: "environment", args: []string{"--listen-addr", own, "--connect-addr", own},
			env: []string{"LINKERD_NETWORK_VALIDATOR_LOG_FORMAT=json", "LINKERD_NETWORK_VALIDATOR_LOG_LEVEL=debug"}, code: 0, log: `"level":"debug"`},
		{name: "flags outrank the environment", args: []string{"--listen-addr", own, "--connect-addr", own, "--log-level", "info"},
			env: []string{"LINKERD_NETWORK_VALIDATOR_LOG_LEVEL=nonsense"}, code: 0, log: "Validated"},
		{name: "another server", args: []string{"--listen-addr", own, "--connect-addr", serve(t, strings.Repeat("x", 64))}, code: 95, log: "reached another server"},
		{name: "a server that says little", args: []string{"--listen-addr", own, "--connect-addr", serve(t, "hello"), "--timeout", "50ms"}, code: 95, log: "timed out after 50ms"},
		{name: "nobody", args: []string{"--listen-addr", own, "--connect-addr", nobody}, code: 95, log: "connection refused"},
		{name: "address in use", args: []string{"--listen-addr", serve(t, ""), "--connect-addr", own}, code: 95, log: "address already in use"},
		{name: "filter", args: []string{"--listen-addr", own, "--connect-addr", own, "--log-level", "warn,linkerd_network_validator=debug,h2=trace"}, code: 0, log: "level=debug"},
		{name: "bad timeout", args: []string{"--timeout", "10"}, code: 2, log: "not a duration"},
		{name: "host name", args: []string{"--connect-addr", "localhost:1"}, code: 2, log: "--connect-addr"},
		{name: "bad level", args: []string{"--log-level", "loud"}, code: 2, log: "loud"},
		{name: "stray argument", args: []string{"validate"}, code: 2, log: `"validate"`},
		{name: "help", args: []string{"--help"}, code: 0, log: "(default 10s)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			code := validatorcmd.Run(t.Context(), c.args, c.env, &out, &out)
			if code != c.code || !strings.Contains(out.String(), c.log) {
				t.Errorf("exit code %d, want %d; output must contain %q:\n%s", code, c.code, c.log, out.String())
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	code := validatorcmd.Run(ctx, []string{"--listen-addr", own, "--connect-addr", serve(t, "")}, nil, &out, &out)
	if code != validatorcmd.ExitUnredirected || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
}
