// Package host looks at the machine that a cluster is to run on, and installs what it lacks.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/netns"
)

// need is a program that a cluster needs and the Debian package that has it.
type need struct{ program, debian string }

var needs = []need{
	{"containerd", "containerd"},
	{"ctr", "containerd"},
	{"containerd-shim-runc-v2", "containerd"},
	{"runc", "runc"},
	{"nft", "nftables"},
	{"iptables", "iptables"},
	{"ip", "iproute2"},
	{"conntrack", "conntrack"},
	{"mount", "mount"},
	{"modprobe", "kmod"},
}

// cniPlugins have to be in one of cniDirs.
var (
	cniPlugins = []string{"bridge", "host-local", "portmap", "loopback"}
	cniDirs    = []string{"/usr/lib/cni", "/opt/cni/bin"}
)

const cniPackage = "containernetworking-plugins"

// needsForAPI are those of a cluster that runs no pods.
var needsForAPI = []need{{"nft", "nftables"}}

// Missing lists what the machine lacks: the programs, and the Debian packages that have them.
func Missing() (programs, packages []string) {
	programs, packages = missing(needs)
	if cniDir() == "" {
		programs, packages = append(programs, "CNI plugins"), append(packages, cniPackage)
	}
	slices.Sort(packages)
	return programs, slices.Compact(packages)
}

// MissingForAPI is Missing for a cluster that runs no pods.
func MissingForAPI() (programs, packages []string) { return missing(needsForAPI) }

func missing(needs []need) (programs, packages []string) {
	for _, n := range needs {
		// Kernels without modules have no modprobe and need none.
		if n.program == "modprobe" {
			if _, err := os.Stat("/lib/modules"); err != nil {
				continue
			}
		}
		if look(n.program) == "" {
			programs, packages = append(programs, n.program), append(packages, n.debian)
		}
	}
	return programs, packages
}

// look finds a program also where administrators' programs are, which a user's PATH may lack.
func look(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

func cniDir() string {
	for _, dir := range cniDirs {
		if !slices.ContainsFunc(cniPlugins, func(plugin string) bool {
			_, err := os.Stat(filepath.Join(dir, plugin))
			return err != nil
		}) {
			return dir
		}
	}
	return ""
}

// Install installs packages with apt-get and shows its output on out.
func Install(ctx context.Context, packages []string, out io.Writer) error {
	if len(packages) == 0 {
		return nil
	}
	if look("apt-get") == "" {
		return fmt.Errorf("this machine lacks %s and has no apt-get; install them by hand", strings.Join(packages, ", "))
	}
	for _, arguments := range [][]string{
		{"update", "-q"},
		slices.Concat([]string{"install", "-q", "-y", "--no-install-recommends"}, packages),
	} {
		fmt.Fprintf(out, "running apt-get %s\n", strings.Join(arguments, " "))
		command := exec.CommandContext(ctx, "apt-get", arguments...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		command.Stdout, command.Stderr = out, out
		if err := command.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", arguments[0], err)
		}
	}
	return nil
}

// modules are kernel features that may be modules still to be loaded, by what shows that they are there.
var modules = []struct{ shows, name string }{
	{"/proc/sys/net/bridge/bridge-nf-call-iptables", "br_netfilter"},
	{"/sys/module/overlay", "overlay"},
	{"/sys/module/nf_conntrack", "nf_conntrack"},
}

// LoadModules loads what is missing and can be loaded. What cannot shows up where it is used, with a better
// message than a missing module's.
func LoadModules() {
	for _, m := range modules {
		if _, err := os.Stat(m.shows); err == nil {
			continue
		}
		if modprobe := look("modprobe"); modprobe != "" {
			_ = exec.Command(modprobe, m.name).Run()
		}
	}
}

// Facts gathers what rendering needs to know about the machine. State is the directory that containerd's
// root will be in, which has to exist.
func Facts(state string) (config.Host, error) {
	self, err := os.Executable()
	if err != nil {
		return config.Host{}, fmt.Errorf("find own program: %w", err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(state, &stat); err != nil {
		return config.Host{}, fmt.Errorf("look at the file system of %s: %w", state, err)
	}
	snapshotter := "overlayfs"
	if stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		// The kernel does not stack overlays' upper directories; copying is slow but works.
		snapshotter = "native"
	}
	_, mtu, err := netns.DefaultLink()
	if err != nil {
		return config.Host{}, err
	}
	if mtu == 0 || mtu > 1500 {
		mtu = 1500
	}
	return config.Host{
		Self:        self,
		Containerd:  look("containerd"),
		CNIBin:      cniDir(),
		Snapshotter: snapshotter,
		Nameservers: nameservers(),
		MTU:         mtu,
	}, nil
}

// nameservers prefers what systemd-resolved asks itself over its stub, which only the machine can reach.
func nameservers() []netip.Addr {
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		if data, err := os.ReadFile(path); err == nil {
			if servers := config.Nameservers(string(data)); len(servers) > 0 {
				return servers
			}
		}
	}
	return nil
}

// Sibling finds a program that is built together with this one and lies next to it.
func Sibling(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s has to lie next to devcluster: %w; make devcluster builds all of them", name, err)
	}
	return path, nil
}

// Ctr runs containerd's command line tool against the containerd at socket, in the namespace of Kubernetes.
func Ctr(ctx context.Context, socket string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, look("ctr"), slices.Concat([]string{"--address", socket, "--namespace", "k8s.io"}, arguments)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("ctr %s: %w", arguments[0], errors.Join(err, errors.New(strings.TrimSpace(stderr.String()))))
	}
	return out, nil
}
