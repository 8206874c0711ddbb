package netlab_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/redirect/nft"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// memoryLimit is that of the container in TestMemoryLimit: what an operator may
// well give to a proxy.
const memoryLimit = 48 << 20

// A memoryGroup is a control group with a memory limit.
type memoryGroup struct {
	dir string
	// v2 says which of the kernel's two interfaces it has.
	v2 bool
}

// newMemoryGroup makes a group below this process's own. Without a memory
// controller the test is skipped.
func newMemoryGroup(t *testing.T, limit int64) memoryGroup {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	g := memoryGroup{}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && f[1] == "memory" {
			g.dir = filepath.Join("/sys/fs/cgroup/memory", f[2])
		}
	}
	file := "memory.limit_in_bytes"
	if g.dir == "" {
		// A group with processes of its own may have no groups with
		// controllers below it, except for the root.
		g.dir, g.v2, file = "/sys/fs/cgroup", true, "memory.max"
		if err := os.WriteFile(filepath.Join(g.dir, "cgroup.subtree_control"), []byte("+memory"), 0o644); err != nil {
			t.Skipf("there is no memory controller: %v", err)
		}
	}
	g.dir = filepath.Join(g.dir, "linkerd-go-memory-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The kernel takes a moment to see that the last process is gone.
		for deadline := time.Now().Add(netlab.Timeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if err = os.Remove(g.dir); err == nil {
				return
			}
		}
		t.Errorf("remove the control group: %v", err)
	})
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(limit, 10)), 0o644); err != nil {
		t.Fatal(err)
	}
	return g
}

// killed is how often the kernel killed a process of the group.
func (g memoryGroup) killed(t *testing.T) string {
	t.Helper()
	file := "memory.oom_control"
	if g.v2 {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strings.TrimSpace(n)
		}
	}
	t.Fatalf("no oom_kill in %s", text)
	return ""
}

// peak is the most that the group ever used, for the log.
func (g memoryGroup) peak() string {
	file := "memory.max_usage_in_bytes"
	if g.v2 {
		file = "memory.peak"
	}
	text, _ := os.ReadFile(filepath.Join(g.dir, file)) // older kernels have no peak
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}

// limited joins a control group, becomes the proxy's user and then a program:
// limited GROUP PROGRAM ARGS...
func limited(_ context.Context, args, env []string, _, stderr io.Writer) int {
	runtime.LockOSThread()
	fail := func(what string, err error) int {
		fmt.Fprintf(stderr, "limited: %s: %v\n", what, err)
		return 125
	}
	if err := os.WriteFile(filepath.Join(args[0], "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fail("join the group", err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, proxyGID, proxyGID, proxyGID); errno != 0 {
		return fail("set group", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, proxyUID, proxyUID, proxyUID); errno != 0 {
		return fail("set user", errno)
	}
	return fail("exec "+args[1], syscall.Exec(args[1], args[1:], env))
}

// openDir is a folder that all users can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "linkerd-go-netlab-")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// startLimitedProxy builds the proxy as it is shipped and starts it in the pod
// under a memory limit. What it returns gives its log.
func startLimitedProxy(t *testing.T, lab *netlab.Lab, g memoryGroup) (log func() string) {
	t.Helper()
	dir := openDir(t)
	binary := filepath.Join(dir, "linkerd-proxy")
	// The flags of the images, so that what they compile is used again.
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/linkerd-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the proxy: %v\n%s", err, out)
	}
	const id = "pod.ns.serviceaccount.identity.linkerd.cluster.local"
	ctl, ca := testcontrol.Serve(t, lab.Pod.Listen(t, "tcp", "127.0.0.1:8086")), testca.New(t)
	ctl.Identity = ca
	identity := filepath.Join(dir, "identity")
	token := filepath.Join(identity, "token")
	err := os.Mkdir(identity, 0o755)
	if err == nil {
		err = os.Chown(identity, proxyUID, proxyGID)
	}
	if err == nil {
		err = os.WriteFile(token, []byte("token"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for k, v := range map[string]string{
		"DESTINATION_SVC_ADDR": "127.0.0.1:8086", "POLICY_SVC_ADDR": "127.0.0.1:8086", "IDENTITY_SVC_ADDR": "127.0.0.1:8086",
		"POLICY_WORKLOAD": "w", "IDENTITY_DIR": identity, "IDENTITY_TOKEN_FILE": token, "IDENTITY_TRUST_ANCHORS": string(ca.PEM),
		"IDENTITY_LOCAL_NAME": id, "INBOUND_DEFAULT_POLICY": "all-unauthenticated", "LOG": "warn,linkerd=info",
		"INBOUND_LISTEN_ADDR": "0.0.0.0:4143", "OUTBOUND_LISTEN_ADDRS": "127.0.0.1:4140", "ADMIN_LISTEN_ADDR": "0.0.0.0:4191",
		"INBOUND_IPS": lab.Pod.IPv4.String(), "CORES": "1", "SHUTDOWN_GRACE_PERIOD": "1s",
	} {
		env = append(env, "LINKERD2_PROXY_"+k+"="+v)
	}
	// This test binary becomes "limited" by the name it is called under.
	self := filepath.Join(dir, "limited")
	exe, err := os.Executable()
	if err == nil {
		err = os.Symlink(exe, self)
	}
	if err != nil {
		t.Fatal(err)
	}
	logPath := filepath.Join(dir, "log")
	out, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(self, g.dir, binary, "linkerd2-proxy-identity")
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, dir, out, out
	wait, err := lab.Pod.Root().Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	log = func() string {
		text, _ := os.ReadFile(logPath) // what cannot be read is not shown
		return string(text)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		err := wait()
		timer.Stop()
		if err != nil {
			t.Errorf("the proxy ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log of the proxy:\n%s", log())
		}
	})
	return log
}

// exchange sends a request on a connection of its own and gives status, body and
// the proxy's explanation.
func exchange(ctx context.Context, u netlab.User, address, path string) (status int, body, reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	c, err := u.Dial(ctx, "tcp4", address)
	if err != nil {
		return 0, "", "", err
	}
	defer c.Close()
	by, _ := ctx.Deadline()
	_ = c.SetDeadline(by)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, address)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header.Get("l5d-proxy-error"), err
}

// glutton is an application that sends as much as is taken and takes next to
// nothing. It is patient until stopped is closed.
type glutton struct{ stopped chan struct{} }

func (g glutton) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/big":
		chunk := bytes.Repeat([]byte("big "), 16<<10)
		for range 256 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case "/sink":
		var b [1 << 10]byte
		_, _ = r.Body.Read(b[:])
		select {
		case <-r.Context().Done():
		case <-g.stopped:
		}
	default:
		_, _ = io.WriteString(w, "fine")
	}
}

func serveGlutton(t *testing.T, u netlab.User, address string) {
	t.Helper()
	l := u.Listen(t, "tcp4", address)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	g := glutton{make(chan struct{})}
	s := &http.Server{Handler: g, Protocols: &protocols}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		close(g.stopped)
		s.Close()
		<-done
	})
}

// The floods. Each takes a connection and holds it for as long as it can.

// headBomb sends a head without end, as large as heads may be.
func headBomb(c net.Conn) {
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Bomb: ")
	for i := 0; i < 400 && err == nil; i++ {
		_, err = c.Write(bytes.Repeat([]byte("b"), 1<<10))
	}
	hold(c)
}

// bigBody sends a body to somebody who does not read it.
func bigBody(c net.Conn) {
	fmt.Fprintf(c, "POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 64<<20)
	_, _ = io.CopyN(c, zeros{}, 64<<20)
	hold(c)
}

// slowReader asks for much and reads next to nothing.
func slowReader(c net.Conn) {
	_, _ = io.WriteString(c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// manyStreams opens streams and fills the windows of all.
func manyStreams(c net.Conn) {
	go func() { _, _ = io.Copy(io.Discard, c) }() // ends with the connection
	_, _ = io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, nil)
	_ = f.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	chunk := make([]byte, 16<<10)
	for id := uint32(1); id < 200; id += 2 {
		block.Reset()
		for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/sink"}, {":authority", "x"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		if f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}) != nil {
			return
		}
	}
	// A mebibyte is what the connection's window takes.
	for i := range uint32(60) {
		if f.WriteData(2*i+1, false, chunk) != nil {
			return
		}
	}
	hold(c)
}

// hold waits until the other side ends the connection.
func hold(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// flooder keeps a number of connections busy.
type flooder struct {
	from    netlab.User
	address string
	conns   int
	flood   func(net.Conn)
}

// run holds the connections until ctx is done, opening others for those that are
// closed.
func (f flooder) run(ctx context.Context, workers *sync.WaitGroup) {
	for range f.conns {
		workers.Go(func() {
			for ctx.Err() == nil {
				c, err := f.from.Dial(ctx, "tcp4", f.address)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { c.Close() })
				f.flood(c)
				stop()
				c.Close()
				// A client that is turned away does not hammer.
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
}

// regular is a client that had a connection before the flood came, and goes on asking
// on it.
type regular struct {
	name string
	conn net.Conn
	r    *bufio.Reader
	// served may be read while it asks.
	served        atomic.Int64
	shed, longest int64
	err           error
}

func newRegular(t *testing.T, name string, u netlab.User, address string) *regular {
	t.Helper()
	c, err := u.Dial(t.Context(), "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g := &regular{name: name, conn: c, r: bufio.NewReader(c)}
	if g.ask(); g.err != nil || g.served.Load() != 1 {
		t.Fatalf("%s: %d served, %v", name, g.served.Load(), g.err)
	}
	return g
}

// ask does a request and counts how it ended; an error says that the connection did.
func (g *regular) ask() {
	began := time.Now()
	_ = g.conn.SetDeadline(began.Add(15 * time.Second))
	if _, g.err = fmt.Fprintf(g.conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", g.conn.RemoteAddr()); g.err != nil {
		return
	}
	resp, err := http.ReadResponse(g.r, nil)
	if err != nil {
		g.err = err
		return
	}
	defer resp.Body.Close()
	if _, g.err = io.Copy(io.Discard, resp.Body); g.err != nil {
		return
	}
	if resp.StatusCode == http.StatusOK {
		g.served.Add(1)
	} else {
		g.shed++
	}
	if resp.Close {
		g.err = fmt.Errorf("status %d, and the connection is over", resp.StatusCode)
	}
	g.longest = max(g.longest, time.Since(began).Milliseconds())
}

// run asks, at a moderate pace, until ctx is done or the connection is over.
func (g *regular) run(ctx context.Context) {
	for ctx.Err() == nil && g.err == nil {
		g.ask()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// TestMemoryLimit floods a proxy that has little memory from both sides. It has
// to survive, go on serving those that it has served before, refuse with the
// documented error what it cannot serve, answer probes all the time, and serve
// again when the flood is over.
func TestMemoryLimit(t *testing.T) {
	lab := netlab.New(t)
	if err := lab.Pod.Do(func() error { return nft.Apply(build(t, options())) }); err != nil {
		t.Fatal(err)
	}
	g := newMemoryGroup(t, memoryLimit)
	workload, peer := lab.Pod.As(appUID, appUID), lab.Peer.Root()
	serveGlutton(t, workload, ":8080")
	serveGlutton(t, peer, ":80")
	proxyLog := startLimitedProxy(t, lab, g)
	const in, out, admin = "10.77.0.2:8080", "10.77.0.1:80", "10.77.0.2:4191"
	fine := func() error {
		for _, c := range []struct {
			from    netlab.User
			address string
		}{{peer, in}, {workload, out}} {
			if status, body, reason, err := exchange(t.Context(), c.from, c.address, "/"); status != 200 || body != "fine" {
				return fmt.Errorf("%s: status %d %q %v", c.address, status, reason, err)
			}
		}
		return nil
	}
	await := func(what string, limit time.Duration, f func() error) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if err = f(); err == nil {
				return
			}
		}
		t.Fatalf("%s: %v", what, err)
	}
	await("start", time.Minute, fine)
	t.Logf("after the start: at most %s", g.peak())

	regulars := []*regular{newRegular(t, "inbound", peer, in), newRegular(t, "outbound", workload, out)}

	// Five seconds, longer only where the machine is so busy that nothing
	// happened in them.
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var workers sync.WaitGroup
	for _, f := range []flooder{
		{peer, in, 60, headBomb}, {peer, in, 60, bigBody}, {peer, in, 60, slowReader}, {peer, in, 30, manyStreams},
		{workload, out, 60, headBomb}, {workload, out, 60, bigBody}, {workload, out, 60, slowReader}, {workload, out, 30, manyStreams},
	} {
		f.run(ctx, &workers)
	}
	for _, g := range regulars {
		workers.Go(func() { g.run(ctx) })
	}
	var served, shed, unexplained, probes atomic.Int64
	workers.Go(func() {
		for ctx.Err() == nil {
			status, _, reason, err := exchange(ctx, workload, out, "/")
			switch {
			case err != nil:
			case status == 200:
				served.Add(1)
			case status == 503 && reason == "service unavailable":
				shed.Add(1)
			default:
				unexplained.Add(1)
				t.Logf("status %d: %q", status, reason)
			}
		}
	})
	// The kubelet's probe, which kills after three failures in a row.
	workers.Go(func() {
		for failures := 0; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			status, _, _, err := exchange(context.WithoutCancel(ctx), peer, admin, "/live")
			if status == 200 {
				failures = 0
				probes.Add(1)
				continue
			}
			if failures++; failures == 3 {
				t.Errorf("probe: status %d, %v", status, err)
				return
			}
		}
	})
	workers.Go(func() {
		defer stop()
		for began := time.Now(); ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			if time.Since(began) > 5*time.Second && shed.Load() > 0 && probes.Load() > 0 &&
				!slices.ContainsFunc(regulars, func(g *regular) bool { return g.served.Load() < 2 }) {
				return
			}
		}
	})
	workers.Wait()
	t.Logf("during the flood: at most %s; %d served, %d shed, %d probes", g.peak(), served.Load(), shed.Load(), probes.Load())
	for _, g := range regulars {
		t.Logf("%s, on a connection from before: %d served, %d shed, %d ms at most, %v", g.name, g.served.Load(), g.shed, g.longest, g.err)
		if g.served.Load() < 2 {
			t.Errorf("%s: a client of long standing was not served", g.name)
		}
	}
	if n := g.killed(t); n != "0" {
		t.Fatalf("the kernel killed %s processes", n)
	}
	if shed.Load() == 0 || unexplained.Load() > 0 || probes.Load() == 0 {
		t.Errorf("%d were shed, %d ended otherwise, %d probes", shed.Load(), unexplained.Load(), probes.Load())
	}
	// The flood is over.
	await("recovery", time.Minute, func() error {
		for range 20 {
			if err := fine(); err != nil {
				return err
			}
		}
		return nil
	})
	_, text, _, err := exchange(t.Context(), peer, admin, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`outbound_http_errors_total{error="loadshed"}`, "proxy_memory_shedding 0\n", "proxy_memory_limit_bytes 50331648\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "tcp_open_conn") || strings.HasPrefix(line, "proxy_memory_") || strings.HasPrefix(line, "process_resident") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if !strings.Contains(proxyLog(), "Memory is scarce; shedding load") {
		t.Error("the log does not tell that load was shed")
	}
}
