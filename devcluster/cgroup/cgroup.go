// Package cgroup keeps each cluster's processes together: everything a cluster starts, directly or through
// containerd, lives below one control group, so that nothing escapes when the cluster is taken down.
//
// It works with version 1 (one tree per controller) and version 2 (a single tree). A Trees value is
// immutable and may be used from any goroutine.
package cgroup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is one mounted hierarchy.
type Tree struct {
	// Mount is where it is mounted.
	Mount string
	// Unified says that it is version 2.
	Unified bool
	// Controllers are the version 1 controllers of this tree.
	Controllers []string
}

// Trees are all hierarchies of the machine.
type Trees struct {
	all []Tree
	// pure says that the machine has version 2 only, so that controllers have to be handed down.
	pure bool
}

// Discover finds the hierarchies of this machine.
func Discover() (Trees, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Trees{}, fmt.Errorf("read mounts: %w", err)
	}
	trees := parse(string(data))
	if len(trees.all) == 0 {
		return trees, errors.New("no cgroup file system is mounted")
	}
	return trees, nil
}

// parse reads the hierarchies out of /proc/self/mountinfo. The same hierarchy mounted twice counts once,
// and the first mount is used.
func parse(mountinfo string) Trees {
	var trees Trees
	seen := map[string]bool{}
	v1 := false
	for line := range strings.Lines(mountinfo) {
		head, tail, ok := strings.Cut(line, " - ")
		if !ok {
			continue
		}
		fields, after := strings.Fields(head), strings.Fields(tail)
		if len(fields) < 5 || len(after) < 3 || !strings.HasPrefix(after[0], "cgroup") || seen[fields[2]] {
			continue
		}
		// A bind mount of a part of the tree is of no use.
		if fields[3] != "/" {
			continue
		}
		tree := Tree{Mount: fields[4], Unified: after[0] == "cgroup2"}
		if !tree.Unified {
			for _, option := range strings.Split(after[2], ",") {
				if option != "rw" && option != "ro" {
					tree.Controllers = append(tree.Controllers, option)
				}
			}
			v1 = v1 || !strings.HasPrefix(strings.Join(tree.Controllers, ","), "name=")
		}
		seen[fields[2]] = true
		trees.all = append(trees.all, tree)
	}
	trees.pure = !v1
	return trees
}

// V1 reports whether the machine's controllers are those of version 1.
func (t Trees) V1() bool { return !t.pure }

// Make creates path in every tree, ready to hold processes.
func (t Trees) Make(path string) error {
	for _, tree := range t.all {
		current := tree.Mount
		for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
			if t.pure && tree.Unified {
				if err := handDown(current); err != nil {
					return err
				}
			}
			current = filepath.Join(current, part)
			if err := os.Mkdir(current, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if slices.Contains(tree.Controllers, "cpuset") {
				if err := fillCPUSet(current); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// handDown lets the children of dir use the controllers that dir itself has.
func handDown(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers: %w", err)
	}
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read controllers: %w", err)
	}
	have := strings.Fields(string(enabled))
	for _, controller := range strings.Fields(string(data)) {
		if slices.Contains(have, controller) {
			continue
		}
		// One at a time, because the kernel refuses the whole list when it refuses one; a missing controller
		// shows up, with its name, in the kubelet's log.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
	return nil
}

// fillCPUSet copies the parent's CPUs and memory nodes: a version 1 cpuset begins empty, and an empty one
// takes no process.
func fillCPUSet(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), parent, 0); err != nil {
			return fmt.Errorf("fill cpuset: %w", err)
		}
	}
	return nil
}

// EnterThread moves the calling thread into path in every version 1 tree. A child that the thread starts is
// born there, which leaves no moment in which it could be missed. The caller has locked its goroutine to
// the thread and lets the thread die afterwards.
func (t Trees) EnterThread(path string) error {
	id := []byte(strconv.Itoa(unix.Gettid()))
	for _, tree := range t.all {
		if tree.Unified {
			continue
		}
		if err := os.WriteFile(filepath.Join(tree.Mount, path, "tasks"), id, 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

// Unified opens path in the version 2 tree for starting a process in it. It returns nil where there is no
// such tree. The caller closes the file.
func (t Trees) Unified(path string) (*os.File, error) {
	for _, tree := range t.all {
		if tree.Unified {
			return os.Open(filepath.Join(tree.Mount, path))
		}
	}
	return nil, nil
}

// Processes lists every process in path or below, in any tree, without doubles.
func (t Trees) Processes(path string) []int {
	seen := map[int]bool{}
	for _, dir := range t.groups(path) {
		file, err := os.Open(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // the group has just gone away
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
				seen[pid] = true
			}
		}
		file.Close()
	}
	pids := make([]int, 0, len(seen))
	for pid := range seen {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids
}

// Exists lists the directories of path that exist.
func (t Trees) Exists(path string) []string {
	var found []string
	for _, tree := range t.all {
		dir := filepath.Join(tree.Mount, path)
		if _, err := os.Stat(dir); err == nil {
			found = append(found, dir)
		}
	}
	return found
}

// groups lists path and everything below in every tree, children before parents.
func (t Trees) groups(path string) []string {
	var groups []string
	for _, top := range t.Exists(path) {
		_ = filepath.WalkDir(top, func(dir string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, dir)
			}
			return nil // a group that went away meanwhile is what we want
		})
	}
	slices.SortFunc(groups, func(a, b string) int {
		if c := strings.Count(b, "/") - strings.Count(a, "/"); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return groups
}

// pollInterval is how often Kill looks whether the processes are gone.
const pollInterval = 20 * time.Millisecond

// Kill ends every process in path and below and waits until the kernel has removed them. It repeats itself,
// because a process may start another before it dies.
func (t Trees) Kill(ctx context.Context, path string) error {
	for {
		alive := t.Processes(path)
		if len(alive) == 0 {
			return nil
		}
		for _, pid := range alive {
			// A container paused by the freezer does not die before it thaws; thaw is below.
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		t.thaw(path)
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v do not end: %w", alive, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// thaw wakes paused containers so that they can die. Groups that are not frozen stay as they are.
func (t Trees) thaw(path string) {
	for _, dir := range t.groups(path) {
		if state, err := os.ReadFile(filepath.Join(dir, "freezer.state")); err == nil && !bytes.HasPrefix(state, []byte("THAWED")) {
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
		}
		if state, err := os.ReadFile(filepath.Join(dir, "cgroup.freeze")); err == nil && bytes.HasPrefix(state, []byte("1")) {
			_ = os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
		}
	}
}

// Remove removes path and everything below from every tree. The processes have to be gone; the kernel may
// need a moment more to let go of a group, so busy ones are tried until ctx ends.
func (t Trees) Remove(ctx context.Context, path string) error {
	for {
		var busy error
		for _, dir := range t.groups(path) {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				busy = fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		if busy == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return busy
		case <-time.After(pollInterval):
		}
	}
}

// RemoveEmpty removes path itself from every tree where nothing is left in it.
func (t Trees) RemoveEmpty(path string) {
	for _, dir := range t.Exists(path) {
		_ = unix.Rmdir(dir)
	}
}
