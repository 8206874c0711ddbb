package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/devcluster/cgroup"
	"github.com/linkerd-go/linkerd-go/devcluster/netns"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// killTimeout is how long processes may take to end after they were killed; a machine that writes to a slow
// disk needs a while.
const killTimeout = time.Minute

// Down removes the cluster: processes, mounts, network, control groups, files. It needs no record of what
// was started: everything is found by the cluster's name. A cluster that does not exist is no error.
func Down(ctx context.Context, target Target, progress *Progress) error {
	if err := target.Check(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("removing a cluster needs root")
	}
	unlock, err := target.lockCluster(progress)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := target.Find()
	if errors.Is(err, ErrNotFound) {
		c = target.assumed()
		if len(Leftovers(c)) == 0 {
			progress.Say("cluster %s does not exist", c.Name)
			// Only the lock that was just taken is there.
			return errors.Join(os.Remove(lockPath(target.RunBase, target.Name)), restoreMachine(target.RunBase))
		}
	} else if err != nil {
		// A damaged record is not to keep anyone from cleaning up.
		progress.Say("%v; removing what goes by the name", err)
		c = target.assumed()
	}

	trees, err := cgroup.Discover()
	if err != nil {
		return err
	}
	pids := trees.Processes(c.Cgroup())
	progress.Say("ending %d processes of cluster %s", len(pids), c.Name)
	killCtx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := trees.Kill(killCtx, c.Cgroup()); err != nil {
		return err
	}

	// From here on every step is tried even if one before it fails, so that as little as possible stays.
	var errs []error
	step := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	mounts, err := unmountAll(c)
	step("mounts", err)
	step("network", netns.Down(c))
	step("address translation", netns.EgressDown(c))
	progress.Say("removed %d mounts and the network", mounts)
	step("control groups", trees.Remove(killCtx, c.Cgroup()))
	trees.RemoveEmpty(plan.CgroupBase)
	for _, path := range strayFiles(c) {
		step("file", os.RemoveAll(path))
	}
	if left := mountsBelow(readMounts(), c.StateDir(), c.RunDir()); len(left) > 0 {
		// Deleting through a mount would delete someone's data.
		errs = append(errs, fmt.Errorf("still mounted, so that files stay: %s", strings.Join(left, ", ")))
		return errors.Join(errs...)
	}
	step("state", removeState(c))
	// The base is removed only if it is empty.
	_ = os.Remove(c.StateBase)
	step("run directory", os.RemoveAll(c.RunDir()))
	step("lock", os.RemoveAll(lockPath(c.RunBase, c.Name)))
	step("machine", restoreMachine(c.RunBase))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	progress.Say("cluster %s is gone", c.Name)
	return nil
}

// removeState removes the state directory, and what an earlier removal left of it.
func removeState(c plan.Cluster) error {
	if err := os.RemoveAll(c.RemovedStateDir()); err != nil {
		return err
	}
	if err := os.Rename(c.StateDir(), c.RemovedStateDir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(c.RemovedStateDir())
}

// unmountAll unmounts everything below the cluster's directories and returns how many mounts that were. A
// mount that is busy is detached: its users are dead, and the kernel finishes by itself.
func unmountAll(c plan.Cluster) (int, error) {
	count := 0
	// Mounts can hide others, so that a second look may find more.
	for range 5 {
		mounts := mountsBelow(readMounts(), c.StateDir(), c.RunDir())
		if len(mounts) == 0 {
			return count, nil
		}
		for _, path := range mounts {
			if unix.Unmount(path, unix.UMOUNT_NOFOLLOW) == nil || unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
				count++
			}
		}
	}
	return count, fmt.Errorf("cannot unmount %s", strings.Join(mountsBelow(readMounts(), c.StateDir(), c.RunDir()), ", "))
}

func readMounts() string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "" // without /proc nothing was mounted by us
	}
	return string(data)
}

// mountsBelow lists the mount points below the given directories (or at them) in the order in which they can
// be unmounted: the reverse of how they were mounted.
func mountsBelow(mountinfo string, dirs ...string) []string {
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		path := unescape(fields[4])
		if slices.ContainsFunc(dirs, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }) {
			found = append(found, path)
		}
	}
	slices.Reverse(found)
	return found
}

// unescape undoes the octal escapes that mountinfo uses for blanks and backslashes.
func unescape(path string) string {
	if !strings.Contains(path, `\`) {
		return path
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// strayFiles lists files that the kubelet, containerd and the CNI library leave outside the cluster's
// directories: links to its logs, sockets of its shims, cached network results.
func strayFiles(c plan.Cluster) []string {
	var stray []string
	logs, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range logs {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, c.StateDir()+"/") {
			stray = append(stray, link)
		}
	}
	addresses, _ := filepath.Glob(c.Run("containerd", "io.containerd.runtime.v2.task", "k8s.io", "*", "address"))
	for _, file := range addresses {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if socket, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "unix:///run/containerd/s/"); ok {
			stray = append(stray, filepath.Join("/run/containerd/s", filepath.Base(socket)))
		}
	}
	results, _ := filepath.Glob("/var/lib/cni/results/*")
	for _, file := range results {
		data, err := os.ReadFile(file)
		if err == nil && cachedFor(c, data) {
			stray = append(stray, file)
		}
	}
	slices.Sort(stray)
	return slices.Compact(stray)
}

// cachedFor reports whether a file of the CNI library's cache is about a pod of c: its network namespace is
// mounted below c's directories.
func cachedFor(c plan.Cluster, data []byte) bool {
	var cached struct {
		Namespace string `json:"netns"`
	}
	return json.Unmarshal(data, &cached) == nil && strings.HasPrefix(cached.Namespace, c.RunDir()+"/")
}

// Leftovers names everything on the machine that belongs to c. It is empty after Down.
func Leftovers(c plan.Cluster) []string {
	found := netns.Leftovers(c)
	if netns.HasEgress(c) {
		found = append(found, "nftables table "+c.HostTable())
	}
	if trees, err := cgroup.Discover(); err == nil {
		for _, pid := range trees.Processes(c.Cgroup()) {
			found = append(found, fmt.Sprintf("process %d", pid))
		}
		for _, dir := range trees.Exists(c.Cgroup()) {
			found = append(found, "cgroup "+dir)
		}
	}
	for _, path := range mountsBelow(readMounts(), c.StateDir(), c.RunDir()) {
		found = append(found, "mount "+path)
	}
	for _, path := range append(strayFiles(c), c.StateDir(), c.RemovedStateDir(), c.RunDir()) {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, "file "+path)
		}
	}
	return found
}
