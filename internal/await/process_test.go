package await

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// app is a program that the tests run under the command. It says its process
// id, then does what its arguments say.
func app() int {
	fmt.Println("pid", os.Getpid())
	switch os.Args[1] {
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		return code
	case "signals":
		// Says each signal it gets until it is told to terminate.
		c := make(chan os.Signal, 8)
		signal.Notify(c, forwarded...)
		fmt.Println("listening")
		for s := range c {
			fmt.Println("got", s)
			if s == syscall.SIGTERM {
				return 7
			}
		}
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return 1
}

// A proxy is a stand-in for the proxy's admin server.
type proxy struct {
	port   string
	server *httptest.Server

	mu       sync.Mutex
	statuses []int    // answers to /ready, the last one for ever; guarded by mu
	requests []string // guarded by mu
}

func newProxy(t *testing.T, statuses ...int) *proxy {
	p := &proxy{statuses: statuses}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.requests = append(p.requests, fmt.Sprintf("%s %s %s", r.Method, strings.Split(r.Host, ":")[0], r.URL.Path))
		if r.URL.Path != "/ready" {
			return
		}
		status := p.statuses[0]
		if len(p.statuses) > 1 {
			p.statuses = p.statuses[1:]
		}
		if status == http.StatusFound {
			w.Header().Set("location", "/elsewhere")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	p.server = s
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.port = u.Port()
	return p
}

func (p *proxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

const (
	askedReady = "GET localhost /ready"
	toldToStop = "POST localhost /shutdown"
)

// awaitApp prepares the command in front of the app.
func awaitApp(p *proxy, options string, app ...string) *exec.Cmd {
	args := append([]string{"-p", p.port, "-b", "1ms"}, strings.Fields(options)...)
	args = append(args, "--", "env", "AWAIT_TEST_PROGRAM=app", os.Args[0])
	return self("await", append(args, app...)...)
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestBecomesTheProgram(t *testing.T) {
	p := newProxy(t, 503, 302, 404, 204)
	cmd := awaitApp(p, "", "exit", "5")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if code := exitCode(t, cmd.Run()); code != 5 {
		t.Errorf("exit code %d, want the program's, 5", code)
	}
	if want := fmt.Sprintf("pid %d\n", cmd.Process.Pid); out.String() != want {
		t.Errorf("the program says %q, want %q: it should have taken the process over", out.String(), want)
	}
	if want := []string{askedReady, askedReady, askedReady, askedReady}; !slices.Equal(p.seen(), want) {
		t.Errorf("the proxy was asked %q, want %q", p.seen(), want)
	}
}

func TestShutdownPassesTheExitCodeOn(t *testing.T) {
	for _, c := range []struct {
		app  []string
		code int
	}{
		{[]string{"exit", "0"}, 0},
		{[]string{"exit", "5"}, 5},
		{[]string{"die"}, 128 + 9},
	} {
		p := newProxy(t, 200)
		if code := exitCode(t, awaitApp(p, "--shutdown", c.app...).Run()); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.app, code, c.code)
		}
		if want := []string{askedReady, toldToStop}; !slices.Equal(p.seen(), want) {
			t.Errorf("%v: the proxy was asked %q, want %q", c.app, p.seen(), want)
		}
	}
}

func TestShutdownForwardsSignals(t *testing.T) {
	p := newProxy(t, 200)
	cmd := awaitApp(p, "-S", "signals")
	// A session of its own has no terminal, whatever the test runs under.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("the program says %q, want %q", lines.Text(), want)
		}
	}
	expect("pid ")
	expect("listening")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		expect("got " + s.String())
	}
	if code := exitCode(t, cmd.Wait()); code != 7 {
		t.Errorf("exit code %d, want the program's, 7", code)
	}
	if want := []string{askedReady, toldToStop}; !slices.Equal(p.seen(), want) {
		t.Errorf("the proxy was asked %q, want %q", p.seen(), want)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	for _, options := range []string{"", "--shutdown"} {
		p := newProxy(t, 200)
		args := append([]string{"-p", p.port}, strings.Fields(options)...)
		cmd := self("await", append(args, "/no/such/program")...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if code := exitCode(t, cmd.Run()); code != 71 || !strings.Contains(stderr.String(), "/no/such/program") {
			t.Errorf("%s: exit code %d, stderr %q", options, code, stderr.String())
		}
	}
}

func TestNobodyListens(t *testing.T) {
	p := newProxy(t, 200)
	p.server.Close()
	cmd := self("await", "-p", p.port, "-t", "20ms", "-b", "1ms")
	if code := exitCode(t, cmd.Run()); code != 69 {
		t.Errorf("exit code %d, want 69", code)
	}
}

// In a pod with IPv6 only, the admin server has no IPv4 address.
func TestIPv6Only(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6 loopback address: %v", err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	}}
	s.Start()
	t.Cleanup(s.Close)
	cmd := self("await", "-p", strconv.Itoa(l.Addr().(*net.TCPAddr).Port), "-t", "10s")
	if code := exitCode(t, cmd.Run()); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
