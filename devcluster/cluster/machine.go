package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/linkerd-go/linkerd-go/devcluster/netns"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
	"github.com/linkerd-go/linkerd-go/devcluster/process"
)

// machine records what clusters changed on the machine that is no single cluster's, so that the last one
// to go can put it back.
type machine struct {
	// Forwarding are the links on which forwarding was switched on.
	Forwarding []string `json:"forwarding,omitempty"`
	// Made are directories outside our own that did not exist before; see sharedDirs.
	Made []string `json:"made,omitempty"`
}

const machineFile = "machine.json"

// devicePlugins is where every kubelet of the machine has its socket for device plugins, whatever its root.
const devicePlugins = "/var/lib/kubelet/device-plugins"

// answers reports whether a process listens on the unix socket at path.
func answers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// sharedDirs are directories that the kubelet, containerd and the CNI library use whatever their
// configuration says, parents after children.
func sharedDirs() []string {
	return []string{
		devicePlugins,
		filepath.Dir(devicePlugins),
		"/var/lib/cni/results",
		"/var/lib/cni/cache",
		"/var/lib/cni",
		"/var/log/containers",
		"/var/log/pods",
		"/run/containerd/s",
		"/run/containerd",
	}
}

func readMachine(runBase string) (machine, error) {
	var m machine
	data, err := os.ReadFile(filepath.Join(runBase, machineFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fs.ErrNotExist
	}
	if err != nil {
		return m, fmt.Errorf("read machine record: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("read machine record: %w", err)
	}
	return m, nil
}

// noteMachine lets c's pods reach the outside and records what that changed.
func noteMachine(c plan.Cluster) error {
	unlock, err := lock(c.RunBase, "all", nil)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := readMachine(c.RunBase)
	if errors.Is(err, fs.ErrNotExist) {
		for _, dir := range sharedDirs() {
			if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
				m.Made = append(m.Made, dir)
			}
		}
	} else if err != nil {
		return err
	}
	link, _, err := netns.DefaultLink()
	if err != nil {
		return err
	}
	wasOff, err := netns.Egress(c, link)
	if err != nil {
		return fmt.Errorf("way to the outside: %w", err)
	}
	if wasOff && !slices.Contains(m.Forwarding, link) {
		m.Forwarding = append(m.Forwarding, link)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("record machine: %w", err)
	}
	return process.WriteFile(filepath.Join(c.RunBase, machineFile), data, 0o644)
}

// restoreMachine puts back what clusters changed, if none is left, and removes the run directory.
func restoreMachine(runBase string) error {
	unlock, err := lock(runBase, "all", nil)
	if err != nil {
		return err
	}
	defer unlock()
	clusters, err := List(runBase)
	if err != nil || len(clusters) > 0 {
		return err
	}
	m, err := readMachine(runBase)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, link := range m.Forwarding {
		errs = append(errs, netns.ForwardingOff(link))
	}
	if !answers(filepath.Join(devicePlugins, "kubelet.sock")) {
		for _, file := range []string{"kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION"} {
			_ = os.Remove(filepath.Join(devicePlugins, file))
		}
		// Here even without a record, which a reboot loses; the directory is left where it is not empty.
		_ = os.Remove(devicePlugins)
		_ = os.Remove(filepath.Dir(devicePlugins))
	}
	for _, dir := range m.Made {
		// Only if nobody else uses it by now.
		_ = os.Remove(dir)
	}
	return errors.Join(append(errs, os.RemoveAll(runBase))...)
}
