// Package lab is the world that the benchmark measures in: two pods, which are
// network namespaces joined by a virtual cable, each with the redirection rules
// of an injected pod and a proxy; the applications; the control plane; and nginx
// and HAProxy as yardsticks.
//
//	client pod 10.77.0.1                          server pod 10.77.0.2
//	  load ─► outbound proxy 4140 ──── mTLS ────►  inbound proxy 4143 ─► app 808x
//	  load ──────────────────────────────────────► nginx 9001, HAProxy 9002 … ─► app
//	  load ──────────────────────────────────────► app 908x
//
// The proxies are the real program with the real redirection. Whoever is to
// pass them by has the user id of the proxy, which the rules leave alone. The
// control plane is in this process, on the loopback address of both pods.
//
// What is measured runs on the last processor that this process may use, all
// of it, one system at a time; load, applications and control plane run on the
// others. A Lab is for one goroutine.
package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/redirect/install"
	"github.com/linkerd-go/linkerd-go/redirect/iptables"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
	"github.com/linkerd-go/linkerd-go/test/host"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// The user that proxies run as, in pods too.
const proxyUID, proxyGID = 2102, 2102

// Names of the two workloads.
const (
	clientID = "client.bench.serviceaccount.identity.linkerd.cluster.local"
	serverID = "web.bench.serviceaccount.identity.linkerd.cluster.local"
)

// Lab is a world that runs.
type Lab struct {
	host           *host.Host
	net            *netlab.Lab
	client, server *netlab.Namespace
	dir            string
	control        []*testcontrol.Server
	ca             *testca.CA
	// measured and others are the processors, as taskset takes them.
	measured, others string
	realtime         bool

	// The systems. Those whose name ends in Client are in the client pod.
	Outbound, Inbound, Nginx, NginxClient, HAProxy, HAProxyClient *Process
}

// A Process is one that was started.
type Process struct {
	Name string
	PID  int
	cmd  *exec.Cmd
	wait func() error
	log  string
}

// Addresses to send load to. Those of services are redirected to the outbound
// proxy.
var (
	Service      = netip.MustParseAddrPort("10.96.0.1:80")
	GRPCService  = netip.MustParseAddrPort("10.96.0.2:80")
	TCPService   = netip.MustParseAddrPort("10.96.0.3:80")
	pod          = netlab.PodIPv4
	loopback     = netip.MustParseAddr("127.0.0.1")
	App          = netip.AddrPortFrom(pod, 8080) // through the inbound proxy
	TCPApp       = netip.AddrPortFrom(pod, 8082)
	Direct       = netip.AddrPortFrom(pod, 9080) // the same applications, past it
	GRPCDirect   = netip.AddrPortFrom(pod, 9081)
	TCPDirect    = netip.AddrPortFrom(pod, 9082)
	Nginx        = netip.AddrPortFrom(pod, 9001)
	HAProxy      = netip.AddrPortFrom(pod, 9002)
	HAProxyTCP   = netip.AddrPortFrom(pod, 9003)
	NginxGRPC    = netip.AddrPortFrom(pod, 9011)
	HAProxyGRPC  = netip.AddrPortFrom(pod, 9012)
	HAProxyTLS   = netip.AddrPortFrom(pod, 9022)
	NginxTwice   = netip.AddrPortFrom(loopback, 9004)
	NginxMTLS    = netip.AddrPortFrom(loopback, 9006)
	HAProxyTwice = netip.AddrPortFrom(loopback, 9005)
	HAProxyMTLS  = netip.AddrPortFrom(loopback, 9021)
)

// New starts everything. proxy is the path of the proxy's binary. With realtime,
// systems, applications and load go before all other work of the machine
// (SCHED_FIFO, sched(7)), all with the same priority.
func New(host *host.Host, proxy string, realtime bool) *Lab {
	l := &Lab{host: host, net: netlab.New(host), dir: host.TempDir(), ca: testca.New(host), realtime: realtime}
	l.client, l.server = l.net.Peer, l.net.Pod
	var err error
	if l.measured, l.others, err = Processors(); err != nil {
		host.Fatal(err)
	}
	// A burst has thousands of connections, each with two descriptors. What a
	// program sets explicitly, its children inherit.
	var limit syscall.Rlimit
	err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err == nil {
		limit.Cur = limit.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	if err != nil || limit.Cur < 16384 {
		host.Fatalf("the limit of open files is %d, 16384 are needed: %v", limit.Cur, err)
	}
	self, err := os.Executable()
	if err == nil {
		// The one of `go run` can be read by root only.
		err = copyFile(self, l.path("bench"))
	}
	if err == nil {
		err = copyFile(proxy, l.path("linkerd-proxy"))
	}
	if err != nil {
		host.Fatal(err)
	}
	for _, ns := range []*netlab.Namespace{l.client, l.server} {
		if err := redirect(ns); err != nil {
			host.Fatalf("redirect the %s: %v", ns.Name, err)
		}
	}
	l.controlPlane()
	l.applications()
	l.yardsticks()
	l.Outbound = l.proxy("outbound", l.client, clientID)
	l.Inbound = l.proxy("inbound", l.server, serverID)
	l.wait()
	return l
}

func (l *Lab) path(name string) string { return filepath.Join(l.dir, name) }

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// Processors divides those that this process may use among what is measured and
// the rest, as taskset takes them.
func Processors() (measured, others string, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return "", "", fmt.Errorf("reading processors: %w", err)
	}
	var all []string
	for i := range 1024 {
		if set.IsSet(i) {
			all = append(all, strconv.Itoa(i))
		}
	}
	return all[len(all)-1], strings.Join(all[:max(len(all)-1, 1)], ","), nil
}

// redirect installs the rules of an injected pod.
func redirect(ns *netlab.Namespace) error {
	return install.Run(context.Background(), install.Config{
		Rules: rules.Options{
			InboundProxyPort: 4143, OutboundProxyPort: 4140, ProxyUID: proxyUID, ProxyGID: proxyGID,
			InboundPortsToIgnore: []string{"4190", "4191", "9000-9100"},
		},
		Mode: iptables.NFT, Netns: ns.Path(),
	}, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// controlPlane serves what both proxies ask for.
func (l *Lab) controlPlane() {
	for _, ns := range []*netlab.Namespace{l.client, l.server} {
		c := testcontrol.Serve(l.host, ns.Listen(l.host, "tcp", "127.0.0.1:8086"))
		c.Identity = l.ca
		for _, s := range []struct {
			name   string
			addr   netip.AddrPort
			port   uint16
			opaque bool
		}{{"web", Service, 8080, false}, {"grpc", GRPCService, 8081, false}, {"tcp", TCPService, 8082, true}} {
			policy, server := testcontrol.ServicePolicy("bench", s.name, 80), testcontrol.OpenServer()
			target := netip.AddrPortFrom(pod, s.port).String()
			endpoint := testcontrol.MeshedEndpoint(target, serverID, 0)
			if s.opaque {
				policy.Protocol.Kind = &outboundpb.ProxyProtocol_Opaque_{Opaque: policy.Protocol.GetDetect().Opaque}
				server.Protocol.Kind = &inboundpb.ProxyProtocol_Opaque_{Opaque: &inboundpb.ProxyProtocol_Opaque{}}
				endpoint = testcontrol.MeshedEndpoint(target, serverID, 4143)
			}
			c.SetOutbound(s.addr.String(), policy)
			c.SetProfile(s.addr.String(), nil)
			c.SetInbound(s.port, server)
			name := s.name + ".bench.svc.cluster.local:80"
			c.SetEndpoints(name, endpoint)
			// The inbound proxy asks by the name in the request.
			c.SetProfile(name, nil)
		}
		l.control = append(l.control, c)
	}
}

// start starts a program in a pod. Without root, it is the proxy's user, whom
// the redirection leaves alone.
func (l *Lab) start(name string, ns *netlab.Namespace, root bool, cpus string, env []string, args ...string) *Process {
	user := ns.As(proxyUID, proxyGID)
	if root {
		user = ns.Root()
	}
	p := &Process{Name: name, log: l.path(name + ".log")}
	out, err := os.Create(p.log)
	if err != nil {
		l.host.Fatal(err)
	}
	defer out.Close()
	p.cmd = command(cpus, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Dir = l.dir
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if p.wait, err = l.launch(user, p.cmd); err != nil {
		l.host.Fatalf("start %s: %v", name, err)
	}
	// taskset becomes the program, so this is the program's.
	p.PID = p.cmd.Process.Pid
	l.host.Cleanup(p.stop)
	return p
}

// command runs a program on some processors.
func command(cpus string, args ...string) *exec.Cmd {
	return exec.Command("taskset", append([]string{"-c", cpus}, args...)...)
}

// launch starts a command of command's. Its priority is set before the program
// has begun, so all threads and processes of it inherit that.
func (l *Lab) launch(user netlab.User, cmd *exec.Cmd) (wait func() error, err error) {
	wait, err = user.Start(cmd)
	if err != nil || !l.realtime {
		return wait, err
	}
	// The lowest is enough to go before all that has none.
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(cmd.Process.Pid, &attr, 0); err != nil {
		_ = cmd.Process.Kill()
		_ = wait()
		return nil, fmt.Errorf("set real-time priority: %w", err)
	}
	return wait, nil
}

// stop ends a process; children of its own end with it.
func (p *Process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(3*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.wait() // how it ends does not matter any more
	timer.Stop()
}

// proxy starts one of ours, as the injector configures it.
func (l *Lab) proxy(name string, ns *netlab.Namespace, id string) *Process {
	dir := l.path(name)
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.Chown(dir, proxyUID, proxyGID)
	}
	token := filepath.Join(dir, "token")
	if err == nil {
		err = os.WriteFile(token, []byte("token"), 0o644)
	}
	if err != nil {
		l.host.Fatal(err)
	}
	env := map[string]string{
		"DESTINATION_SVC_ADDR": "127.0.0.1:8086", "POLICY_SVC_ADDR": "127.0.0.1:8086", "IDENTITY_SVC_ADDR": "127.0.0.1:8086",
		"POLICY_WORKLOAD": `{"ns":"bench","pod":"p"}`, "DESTINATION_CONTEXT": `{"ns":"bench","nodeName":"n","pod":"p"}`,
		"IDENTITY_DIR": dir, "IDENTITY_TOKEN_FILE": token, "IDENTITY_TRUST_ANCHORS": string(l.ca.PEM), "IDENTITY_LOCAL_NAME": id,
		"INBOUND_LISTEN_ADDR": "0.0.0.0:4143", "OUTBOUND_LISTEN_ADDRS": "127.0.0.1:4140",
		"ADMIN_LISTEN_ADDR": "0.0.0.0:4191", "CONTROL_LISTEN_ADDR": "0.0.0.0:4190",
		"INBOUND_IPS": ns.IPv4.String(), "INBOUND_PORTS": "8080,8081,8082", "INBOUND_DEFAULT_POLICY": "all-unauthenticated",
		"POLICY_CLUSTER_NETWORKS": "10.0.0.0/8", "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8",
		"DESTINATION_PROFILE_SUFFIXES": "svc.cluster.local.",
		"INBOUND_CONNECT_TIMEOUT":      "100ms", "OUTBOUND_CONNECT_TIMEOUT": "1000ms",
		"INBOUND_ACCEPT_KEEPALIVE": "10000ms", "OUTBOUND_CONNECT_KEEPALIVE": "10000ms",
		"INBOUND_ACCEPT_USER_TIMEOUT": "30s", "OUTBOUND_CONNECT_USER_TIMEOUT": "30s",
		"CONTROL_STREAM_INITIAL_TIMEOUT": "3s", "CONTROL_STREAM_IDLE_TIMEOUT": "5m", "CONTROL_STREAM_LIFETIME": "1h",
		"INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL": "10s", "INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT": "3s",
		"OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL": "10s", "OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT": "3s",
		"CORES": "1", "LOG": "warn,linkerd=info", "SHUTDOWN_GRACE_PERIOD": "1s",
		// For -profile; it costs nothing while none is taken.
		"PPROF": "true",
	}
	var list []string
	for k, v := range env {
		list = append(list, "LINKERD2_PROXY_"+k+"="+v)
	}
	return l.start(name, ns, false, l.measured, list, l.path("linkerd-proxy"), "linkerd2-proxy-identity")
}

// wait waits until everything serves.
func (l *Lab) wait() {
	deadline := time.Now().Add(20 * time.Second)
	for _, c := range []struct {
		ns   *netlab.Namespace
		addr netip.AddrPort
	}{
		{l.client, Direct}, {l.client, GRPCDirect}, {l.client, TCPDirect}, {l.client, Nginx}, {l.client, HAProxy},
		{l.client, HAProxyTLS}, {l.client, NginxTwice}, {l.client, NginxMTLS}, {l.client, HAProxyTwice}, {l.client, HAProxyMTLS},
	} {
		for {
			conn, err := c.ns.As(proxyUID, proxyGID).Dial(context.Background(), "tcp", c.addr.String())
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				l.host.Fatalf("%s does not listen: %v\n%s", c.addr, err, l.Logs())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for _, p := range []*Process{l.Outbound, l.Inbound} {
		for {
			_, err := l.Admin(p, "/ready")
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				l.host.Fatalf("the %s proxy is not ready: %v\n%s", p.Name, err, l.Logs())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// Logs is the end of what each process has said.
func (l *Lab) Logs() string {
	files, _ := filepath.Glob(l.path("*.log"))
	var b strings.Builder
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if len(text) > 0 {
			fmt.Fprintf(&b, "--- %s\n%s", filepath.Base(f), text[max(len(text)-2000, 0):])
		}
	}
	return b.String()
}

// Admin asks the admin port of a proxy.
func (l *Lab) Admin(p *Process, path string) ([]byte, error) {
	ns := l.client
	if p == l.Inbound {
		ns = l.server
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return ns.Root().Dial(ctx, network, addr)
	}}
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("http://127.0.0.1:4191" + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return b, err
}

// Allocations is how many objects a proxy has ever allocated.
func (l *Lab) Allocations(p *Process) (uint64, error) {
	b, err := l.Admin(p, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "go_gc_heap_allocs_objects_total "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
			return uint64(v), err
		}
	}
	return 0, errors.New("the metrics do not count allocations")
}

// Mark is the line with which a command that Run runs asks for its mark, and waits
// for a line.
const Mark = "mark"

// Run runs a command of this program in the client pod and returns what it
// prints. With mesh, its connections are redirected to the outbound proxy. mark is
// called when the command asks for it.
func (l *Lab) Run(mesh bool, mark func() error, args ...string) ([]byte, error) {
	user := l.client.As(proxyUID, proxyGID)
	if mesh {
		user = l.client.Root()
	}
	var errs strings.Builder
	cmd := command(l.others, append([]string{l.path("bench")}, args...)...)
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// A pipe of the library's would be closed, read or not, when the command ends.
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout = theirs
	wait, err := l.launch(user, cmd)
	theirs.Close()
	if err != nil {
		return nil, err
	}
	var printed []byte
	var failed error
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() != Mark {
			printed = append(append(printed, lines.Bytes()...), '\n')
			continue
		}
		if failed = mark(); failed != nil {
			break
		}
		if _, err := io.WriteString(in, "\n"); err != nil {
			break // it has ended; wait tells why
		}
	}
	in.Close()
	// What is not read any more must not hold it up.
	_, _ = io.Copy(io.Discard, out)
	if err := wait(); err != nil && failed == nil {
		failed = fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return printed, failed
}

// Hold is Run for a command that prints a line when it is ready and then runs
// until release is called.
func (l *Lab) Hold(mesh bool, args ...string) (release func(), err error) {
	user := l.client.As(proxyUID, proxyGID)
	if mesh {
		user = l.client.Root()
	}
	var errs strings.Builder
	cmd := command(l.others, append([]string{l.path("bench")}, args...)...)
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	wait, err := l.launch(user, cmd)
	if err != nil {
		return nil, err
	}
	release = func() {
		in.Close()
		_ = wait() // what it found was said before
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		release()
		return nil, errors.New(strings.TrimSpace(errs.String()))
	}
	return release, nil
}
