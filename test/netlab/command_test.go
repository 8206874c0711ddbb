package netlab_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/redirect/initcmd"
	"github.com/linkerd-go/linkerd-go/redirect/nft"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
	"github.com/linkerd-go/linkerd-go/redirect/validatorcmd"
	"github.com/linkerd-go/linkerd-go/redirect/xtables"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// command prepares this test binary to run as one of the project's commands.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = name
	return cmd
}

// runIn runs a command in the pod as root and returns what it printed.
func runIn(t *testing.T, ns *netlab.Namespace, cmd *exec.Cmd) (string, int) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := ns.Root().Run(cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd.Args[0], err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// injected are the arguments that an injected pod's init container gets.
var injected = []string{
	"--firewall-bin-path", "iptables-nft", "--firewall-save-bin-path", "iptables-nft-save",
	"--incoming-proxy-port", "4143", "--outgoing-proxy-port", "4140", "--proxy-uid", "2102",
	"--inbound-ports-to-ignore", "4190,4191,4567,4568", "--outbound-ports-to-ignore", "4567,4568",
}

// counts returns how many rules each native backend has in the pod.
func counts(t *testing.T, ns *netlab.Namespace) (viaNft, viaTables int) {
	t.Helper()
	err := ns.Do(func() error {
		a, err := nft.Installed()
		if err != nil {
			return err
		}
		b, err := xtables.Installed()
		viaNft, viaTables = len(a), len(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return viaNft, viaTables
}

func TestInitCommand(t *testing.T) {
	lab := newLab(t)
	for range 2 {
		out, code := runIn(t, lab.Pod, command(t, initcmd.Name, injected...))
		if code != 0 || !strings.Contains(out, `msg="redirection is set up" using=nftables`) {
			t.Fatalf("exit code %d, log:\n%s", code, out)
		}
	}
	for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
		dial{from: "pod", uid: appUID, to: "PEER:80", want: "outbound PEER:80"}.check(t, lab, family)
		dial{from: "pod", uid: proxyUID, to: "PEER:80", want: "app PEER:80"}.check(t, lab, family)
		dial{from: "peer", to: "POD:8080", want: "inbound POD:8080"}.check(t, lab, family)
		dial{from: "peer", to: "POD:4191", want: "app POD:4191"}.check(t, lab, family)
	}
	if out, code := runIn(t, lab.Pod, command(t, initcmd.Name, "--cleanup")); code != 0 {
		t.Fatalf("cleanup: exit code %d, log:\n%s", code, out)
	}
	if n, x := counts(t, lab.Pod); n+x != 0 {
		t.Errorf("cleanup left %d nftables and %d ip_tables rules", n, x)
	}
}

// Each value of the chart's proxyInit.iptablesMode works without any firewall
// program, and means what it says where it can.
func TestInitCommandModes(t *testing.T) {
	for _, c := range []struct {
		args    []string
		legacy  bool
		warning string
	}{
		{args: []string{"--iptables-mode", "nft"}},
		{args: []string{"--iptables-mode", "legacy"}, legacy: true},
		{args: nil, legacy: true}, // what the chart passes for legacy
		{args: []string{"--iptables-mode", "plain"}, warning: "no complete pair of iptables programs"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			lab := newLab(t)
			cmd := command(t, initcmd.Name, append([]string{"-p", "4143", "-o", "4140", "-u", "2102"}, c.args...)...)
			cmd.Env = []string{"PATH=" + t.TempDir()}
			out, code := runIn(t, lab.Pod, cmd)
			if code != 0 || !strings.Contains(out, c.warning) || (c.warning == "") == strings.Contains(out, "level=warn") {
				t.Fatalf("exit code %d, log:\n%s", code, out)
			}
			n, x := counts(t, lab.Pod)
			if (x > 0) != c.legacy || (n > 0) == c.legacy {
				t.Errorf("%d nftables and %d ip_tables rules", n, x)
			}
			dial{from: "pod", uid: appUID, to: "PEER:80", want: "outbound PEER:80"}.check(t, lab, rules.IPv4)
		})
	}
}

// From outside, by the namespace's path, as a node's agent does it.
func TestInitCommandNetns(t *testing.T) {
	lab := newLab(t)
	out, code := runIn(t, lab.Peer, command(t, initcmd.Name, append(injected, "--netns", lab.Pod.Path(), "--timeout-close-wait-secs", "77")...))
	if code != 0 {
		t.Fatalf("exit code %d, log:\n%s", code, out)
	}
	if n, _ := counts(t, lab.Pod); n == 0 {
		t.Error("no rules in the pod")
	}
	if n, _ := counts(t, lab.Peer); n != 0 {
		t.Error("rules where the command ran")
	}
	if got := closeWait(t, lab.Pod); got != "77" {
		t.Errorf("the close-wait timeout is %s", got)
	}
	// To the kernel 0 would be a time like others; to users it says to leave the kernel's alone.
	if out, code := runIn(t, lab.Pod, command(t, initcmd.Name, append(injected, "--timeout-close-wait-secs", "0")...)); code != 0 {
		t.Fatalf("exit code %d, log:\n%s", code, out)
	}
	if got := closeWait(t, lab.Pod); got != "77" {
		t.Errorf("the close-wait timeout is %s after 0 was asked for", got)
	}
}

// closeWait returns the kernel's setting.
func closeWait(t *testing.T, ns *netlab.Namespace) string {
	t.Helper()
	var seconds string
	err := ns.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait")
		seconds = strings.TrimSpace(string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}

// The init container does not run as root: it has the capability only by the
// mark on the program's file. The same file must run where the capability is
// not to be had, since the proxy is the same file.
func TestInitCommandWithoutRoot(t *testing.T) {
	lab := netlab.New(t)
	marked := markedBinary(t, initcmd.FileCapability)
	start := func(caps, name string, args ...string) (string, int) {
		// A link gives the file its other name.
		link := filepath.Join(filepath.Dir(marked), name)
		if err := os.Link(marked, link); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		cmd := command(t, "container", append([]string{link}, args...)...)
		cmd.Env = append(os.Environ(), "CONTAINER_CAPS="+caps)
		return runIn(t, lab.Pod, cmd)
	}

	out, code := start("net_admin", initcmd.Name, injected...)
	if code != 0 {
		t.Errorf("with the capability: exit code %d, log:\n%s", code, out)
	}
	if n, _ := counts(t, lab.Pod); n == 0 {
		t.Error("with the capability: no rules in the pod")
	}
	// Simulation stands for any command that needs no privilege.
	if out, code := start("", initcmd.Name, append(injected, "--simulate")...); code != 0 {
		t.Errorf("without the capability, simulation: exit code %d, log:\n%s", code, out)
	}
	out, code = start("", initcmd.Name, injected...)
	if code != 1 || !strings.Contains(out, nft.ErrPermission.Error()) {
		t.Errorf("without the capability: exit code %d, log:\n%s", code, out)
	}
}

// markedBinary copies this test binary to a place that everybody can read and
// marks it the way an image marks its binary: a capability is permitted but not
// effective from the start.
func markedBinary(t *testing.T, capability string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "netlab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	path := filepath.Join(dir, "binary")
	copied, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(copied, exe); err != nil {
		t.Fatal(err)
	}
	if err := copied.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "security.capability", []byte(capability), 0); err != nil {
		t.Fatalf("mark the file: %v", err)
	}
	return path
}

// The validator tells a pod with rules from one without.
func TestValidatorCommand(t *testing.T) {
	for _, family := range []struct{ listen, connect string }{
		{"0.0.0.0:4140", "1.1.1.1:20001"},
		{"[::]:4140", "[fd00::1]:20001"},
		{"[::]:4140", "1.1.1.1:20001"},
	} {
		t.Run(family.listen+" "+family.connect, func(t *testing.T) {
			lab := netlab.New(t)
			validate := func(timeout string) (string, int) {
				return runIn(t, lab.Pod, command(t, validatorcmd.Name,
					"--listen-addr", family.listen, "--connect-addr", family.connect, "--timeout", timeout))
			}
			if out, code := validate("300ms"); code != validatorcmd.ExitUnredirected {
				t.Errorf("without rules: exit code %d, log:\n%s", code, out)
			}
			if err := lab.Pod.Do(func() error { return nft.Apply(build(t, options())) }); err != nil {
				t.Fatal(err)
			}
			if out, code := validate("10s"); code != 0 || !strings.Contains(out, "Validated") {
				t.Errorf("with rules: exit code %d, log:\n%s", code, out)
			}
		})
	}
}

// A server that happens to listen at the connect address is not taken for
// redirection.
func TestValidatorNoticesStrangers(t *testing.T) {
	lab := netlab.New(t)
	lab.Peer.Root().ServeText(t, "tcp", ":20001", func(net.Conn) string { return strings.Repeat("x", 63) })
	out, code := runIn(t, lab.Pod, command(t, validatorcmd.Name, "--connect-addr", "10.77.0.1:20001", "--timeout", "5s"))
	if code != validatorcmd.ExitUnredirected {
		t.Errorf("exit code %d, log:\n%s", code, out)
	}
}
