package await

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

// fakeWorld notes what the command does, in order.
type fakeWorld struct {
	readyAfter int // checks until ready; negative: never
	slow       bool
	startErr   error
	code       int

	did    []string
	checks int
}

func (f *fakeWorld) world() world {
	return world{
		ready: func(ctx context.Context) bool {
			f.checks++
			if f.slow {
				<-ctx.Done()
			}
			return f.readyAfter >= 0 && f.checks > f.readyAfter
		},
		shutdown: func(context.Context) { f.did = append(f.did, "shutdown") },
		become: func(command, _ []string) error {
			f.did = append(f.did, "become "+strings.Join(command, " "))
			// A real one returns only this way.
			return errors.New("no such file")
		},
		child: func(command, _ []string) (int, error) {
			f.did = append(f.did, "child "+strings.Join(command, " "))
			return f.code, f.startErr
		},
	}
}

func TestRun(t *testing.T) {
	const unready = "linkerd-proxy failed to become ready within %s timeout\n"
	const failed = "linkerd-await: cannot run app: no such file\n"
	cases := []struct {
		name   string
		args   string
		env    []string
		world  fakeWorld
		code   int
		did    string
		checks int
		took   time.Duration
		stderr string
	}{
		{name: "ready at once", code: 0, checks: 1},
		{name: "ready at the third check", world: fakeWorld{readyAfter: 2}, checks: 3, took: 2 * time.Second},
		{name: "backoff", args: "-b 250ms", world: fakeWorld{readyAfter: 2}, checks: 3, took: 500 * time.Millisecond},
		{name: "a check that hangs is given up", world: fakeWorld{slow: true, readyAfter: 1}, checks: 2, took: 11 * time.Second},
		{name: "becomes the program", args: "-- app -x --shutdown", did: "become app -x --shutdown", checks: 1, code: 71, stderr: failed},
		{name: "the dashes may be left out", args: "-p 1 app -p", did: "become app -p", checks: 1, code: 71, stderr: failed},

		{name: "timeout", args: "--timeout=3500ms", world: fakeWorld{readyAfter: -1}, code: 69, checks: 4, took: 3500 * time.Millisecond, stderr: fmt.Sprintf(unready, "3500ms")},
		{name: "timeout during a check", args: "-t 123s", world: fakeWorld{slow: true, readyAfter: -1}, code: 69, checks: 21, took: 123 * time.Second, stderr: fmt.Sprintf(unready, "123s")},
		{name: "timeout keeps the program from running", args: "-t 1s -b 2s -- app", world: fakeWorld{readyAfter: -1}, code: 69, checks: 1, took: time.Second, stderr: fmt.Sprintf(unready, "1s")},
		{name: "timeout that is not fatal", args: "-t 1s -b 2s --timeout-fatal=false app", world: fakeWorld{readyAfter: -1}, code: 71, did: "become app", checks: 1, took: time.Second, stderr: fmt.Sprintf(unready, "1s") + failed},
		{name: "no timeout", args: "-t 0", world: fakeWorld{readyAfter: 3600}, checks: 3601, took: time.Hour},

		{name: "shutdown", args: "-S app 1 2", world: fakeWorld{code: 3}, code: 3, did: "child app 1 2, shutdown", checks: 1},
		{name: "shutdown after a failed start", args: "--shutdown app", world: fakeWorld{startErr: errors.New("no such file")}, code: 71, did: "child app, shutdown", checks: 1, stderr: failed},

		{name: "no linkerd", env: []string{"LINKERD_DISABLED=yes"}, checks: 0},
		{name: "no linkerd, verbose", args: "-v", env: []string{"LINKERD_DISABLED=it is off"}, stderr: "Linkerd readiness check skipped: it is off\n"},
		{name: "no linkerd, verbose by environment", env: []string{"LINKERD_DISABLED=1", "LINKERD_AWAIT_VERBOSE=true"}, stderr: "Linkerd readiness check skipped: 1\n"},
		{name: "no linkerd, nothing to shut down", args: "-S app", env: []string{"LINKERD_DISABLED=1"}, did: "become app", code: 71, stderr: failed},
		{name: "no waiting", args: "-S app", env: []string{"LINKERD_AWAIT_DISABLED=1"}, did: "child app, shutdown"},
		{name: "the first reason counts", args: "-v -S app", env: []string{"LINKERD_DISABLED=b", "LINKERD_AWAIT_DISABLED=a"}, did: "child app, shutdown", stderr: "Linkerd readiness check skipped: a\n"},
		{name: "empty is not disabled", env: []string{"LINKERD_DISABLED=", "LINKERD_AWAIT_DISABLED="}, checks: 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stdout, stderr bytes.Buffer
				o, _, err := parse(strings.Fields(c.args), c.env, &stdout)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				code := o.run(t.Context(), c.env, &stderr, c.world.world())
				if code != c.code {
					t.Errorf("exit code %d, want %d", code, c.code)
				}
				if did := strings.Join(c.world.did, ", "); did != c.did {
					t.Errorf("did %q, want %q", did, c.did)
				}
				if c.world.checks != c.checks {
					t.Errorf("%d checks, want %d", c.world.checks, c.checks)
				}
				if took := time.Since(begin); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if stderr.String() != c.stderr {
					t.Errorf("stderr is %q, want %q", stderr.String(), c.stderr)
				}
			})
		})
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		output string
	}{
		{"--help", 0, "linkerd-await [OPTIONS] [CMD] [ARGS]..."},
		{"-h", 0, "-S, --shutdown"},
		{"--version", 0, "linkerd-await "},
		{"-V", 0, "linkerd-await "},
		{"--shutdown", 2, "--shutdown requires a CMD"},
		{"--timeout-fatal", 2, "--timeout-fatal requires a CMD"},
		{"--timeout-fatal=maybe app", 2, "timeout-fatal"},
		{"--timeout 10", 2, "not a duration"},
		{"--port 70000", 2, "port"},
		{"--nonsense", 2, "nonsense"},
	} {
		var out bytes.Buffer
		code := Run(t.Context(), strings.Fields(c.args), nil, &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.output) {
			t.Errorf("%s: exit code %d, output %q", c.args, code, out.String())
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	w := fakeWorld{readyAfter: -1}
	o, _, _ := parse([]string{"-t", "1h", "app"}, nil, &out)
	if code := o.run(ctx, nil, &out, w.world()); code != exitInterrupted || len(w.did) > 0 {
		t.Errorf("exit code %d, did %v", code, w.did)
	}
}

func TestTruthy(t *testing.T) {
	for value, want := range map[string]bool{"": false, "0": false, "False": false, "off": false, "1": true, "true": true, "yes": true} {
		if truthy(value) != want {
			t.Errorf("%q is %v", value, !want)
		}
	}
}

// TestMain lets the test binary stand in for the programs that the tests run.
func TestMain(m *testing.M) {
	switch os.Getenv("AWAIT_TEST_PROGRAM") {
	case "await":
		os.Exit(Run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	case "app":
		os.Exit(app())
	}
	leaks.VerifyTestMain(m)
}

// self prepares this test binary to run as one of the programs above.
func self(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "AWAIT_TEST_PROGRAM="+program)
	return cmd
}
