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
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/devcluster/netns"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
	"github.com/linkerd-go/linkerd-go/devcluster/process"
)

// machine records what clusters changed on the machine that is no single cluster's, so that the last one
// to go can put it back.
type machine struct {
	// Forwarding are the links on which forwarding was switched on.
	Forwarding []string `json:"forwarding,omitempty"`
	// Limits are the kernel's limits that were raised, by file, with their earlier values.
	Limits map[string]string `json:"limits,omitempty"`
	// Made are directories outside our own that did not exist before; see sharedDirs.
	Made []string `json:"made,omitempty"`
}

const machineFile = "machine.json"

// limits are the least that several clusters need. Every component watches files, all of them as root, and
// the usual 128 watchers of one user are used up by half a dozen clusters.
var limits = map[string]int{"/proc/sys/fs/inotify/max_user_instances": 1024}

// raiseLimits raises what is lower and records in m what it was.
func (m *machine) raiseLimits(limits map[string]int) error {
	for path, least := range limits {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read limit: %w", err)
		}
		old := strings.TrimSpace(string(data))
		value, err := strconv.Atoi(old)
		if err != nil {
			return fmt.Errorf("read limit %s: %w", path, err)
		}
		if value >= least {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(least)), 0); err != nil {
			return fmt.Errorf("raise limit: %w", err)
		}
		if m.Limits == nil {
			m.Limits = map[string]string{}
		}
		if _, ok := m.Limits[path]; !ok {
			m.Limits[path] = old
		}
	}
	return nil
}

// restoreLimits puts the limits back.
func (m *machine) restoreLimits() error {
	var errs []error
	for path, old := range m.Limits {
		if err := os.WriteFile(path, []byte(old), 0); err != nil {
			errs = append(errs, fmt.Errorf("restore limit: %w", err))
		}
	}
	return errors.Join(errs...)
}

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
	if err := m.raiseLimits(limits); err != nil {
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
	errs := []error{m.restoreLimits()}
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
