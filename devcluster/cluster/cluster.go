// Package cluster starts, inspects and removes whole clusters. It is the only package that decides when
// something is done; how is in the packages that it calls.
//
// One operation per cluster runs at a time: Up, Down and Load take the cluster's lock, which other processes
// respect too.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/devcluster/netns"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
	"github.com/linkerd-go/linkerd-go/devcluster/process"
)

// ErrNotFound says that no cluster of that name exists on this machine.
var ErrNotFound = errors.New("no such cluster")

// Target names a cluster on this machine.
type Target struct {
	// Name is the cluster's name.
	Name string
	// StateBase is the directory that the user chose for clusters' state; empty if none was chosen.
	StateBase string
	// RunBase is plan.DefaultRunBase but in tests.
	RunBase string
	// APIOnly asks Up for an API server with its store and nothing that runs pods.
	APIOnly bool
}

// Check says what is wrong with the target, if anything.
func (t Target) Check() error {
	if err := plan.CheckName(t.Name); err != nil {
		return err
	}
	return plan.CheckStateBase(t.stateBase(), t.Name)
}

func (t Target) stateBase() string {
	if t.StateBase != "" {
		return t.StateBase
	}
	return plan.DefaultStateBase
}

// assumed is the cluster as its name alone tells. Its index, and so its addresses, are not known.
func (t Target) assumed() plan.Cluster {
	return plan.Cluster{Name: t.Name, Index: -1, StateBase: t.stateBase(), RunBase: t.RunBase}
}

// recordFile is in both the run and the state directory and holds the plan.Cluster.
const recordFile = "cluster.json"

// Find looks the cluster up: among the ones of this boot first, then in its state directory, which survives
// a reboot. It returns ErrNotFound if there is neither.
func (t Target) Find() (plan.Cluster, error) {
	assumed := t.assumed()
	for _, path := range []string{assumed.Run(recordFile), assumed.State(recordFile)} {
		c, err := readRecord(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return plan.Cluster{}, err
		}
		c.RunBase = t.RunBase
		return c, nil
	}
	return plan.Cluster{}, fmt.Errorf("%w: %s", ErrNotFound, t.Name)
}

func readRecord(path string) (plan.Cluster, error) {
	var c plan.Cluster
	data, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read cluster record: %w", err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("read cluster record %s: %w", path, err)
	}
	return c, nil
}

// List returns the clusters of this boot by name.
func List(runBase string) ([]plan.Cluster, error) {
	paths, err := filepath.Glob(filepath.Join(runBase, "*", recordFile))
	if err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	var clusters []plan.Cluster
	for _, path := range paths {
		c, err := readRecord(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went away meanwhile
		}
		if err != nil {
			return nil, err
		}
		c.RunBase = runBase
		clusters = append(clusters, c)
	}
	slices.SortFunc(clusters, func(a, b plan.Cluster) int { return strings.Compare(a.Name, b.Name) })
	return clusters, nil
}

// claim finds the cluster or gives it addresses of its own, and records it. The caller holds the cluster's
// lock.
func (t Target) claim() (c plan.Cluster, isNew bool, err error) {
	unlock, err := lock(t.RunBase, "all", nil)
	if err != nil {
		return c, false, err
	}
	defer unlock()
	clusters, err := List(t.RunBase)
	if err != nil {
		return c, false, err
	}
	taken := map[int]string{}
	for _, other := range clusters {
		taken[other.Index] = other.Name
	}

	c, err = t.Find()
	switch {
	case errors.Is(err, ErrNotFound):
		busy, err := netns.Busy()
		if err != nil {
			return c, false, err
		}
		c, isNew = t.assumed(), true
		c.APIOnly = t.APIOnly
		if c.Index, err = plan.Allocate(taken, busy); err != nil {
			return c, false, err
		}
	case err != nil:
		return c, false, err
	default:
		if t.StateBase != "" && t.StateBase != c.StateBase {
			return c, false, fmt.Errorf("cluster %s keeps its state in %s, not in %s; run down first", c.Name, c.StateDir(), filepath.Join(t.StateBase, c.Name))
		}
		switch {
		case t.APIOnly && !c.APIOnly:
			return c, false, fmt.Errorf("cluster %s runs pods, and not the API server only; run down first", c.Name)
		case !t.APIOnly && c.APIOnly:
			return c, false, fmt.Errorf("cluster %s has the API server only; run down first for one that runs pods", c.Name)
		}
		if owner, ok := taken[c.Index]; ok && owner != c.Name {
			return c, false, fmt.Errorf("the addresses of cluster %s (%s) now belong to cluster %s; run down for one of them first", c.Name, c.Pods(), owner)
		}
	}

	if err := os.RemoveAll(c.RemovedStateDir()); err != nil {
		return c, false, fmt.Errorf("remove what an earlier cluster left: %w", err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		return c, false, fmt.Errorf("record cluster: %w", err)
	}
	for _, path := range []string{c.State(recordFile), c.Run(recordFile)} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return c, false, fmt.Errorf("record cluster: %w", err)
		}
		if err := process.WriteFile(path, data, 0o644); err != nil {
			return c, false, fmt.Errorf("record cluster: %w", err)
		}
	}
	return c, isNew, nil
}

// lock takes the lock called name among all processes of the machine. It calls waiting, if not nil, when it
// has to wait. The lock's file stays until the last cluster goes.
func lock(runBase, name string, waiting func()) (unlock func(), err error) {
	if err := os.MkdirAll(runBase, 0o755); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	path := lockPath(runBase, name)
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			// The last cluster has just gone, and the directory with it.
			if err := os.MkdirAll(runBase, 0o755); err != nil {
				return nil, fmt.Errorf("make run directory: %w", err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			if waiting != nil {
				waiting()
			}
			err = flock(file)
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// Whoever held it may have removed the file; then this lock guards nothing.
		if sameFile(file, path) {
			return func() { file.Close() }, nil
		}
		file.Close()
	}
}

func lockPath(runBase, name string) string { return filepath.Join(runBase, ".lock-"+name) }

func flock(file *os.File) error {
	for {
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func sameFile(file *os.File, path string) bool {
	mine, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// lockCluster takes the lock of one cluster and tells the user when it has to wait.
func (t Target) lockCluster(progress *Progress) (unlock func(), err error) {
	return lock(t.RunBase, t.Name, func() {
		progress.Say("waiting for another devcluster command on cluster %s", t.Name)
	})
}

// Progress tells the user what happens, with the time since the beginning. It may be used from any
// goroutine.
type Progress struct {
	begin time.Time
	// mu guards out, so that lines do not mix.
	mu  sync.Mutex
	out io.Writer
}

// NewProgress starts the clock.
func NewProgress(out io.Writer) *Progress {
	return &Progress{begin: time.Now(), out: out}
}

// Say writes one line.
func (p *Progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "[%5.1fs] %s\n", time.Since(p.begin).Seconds(), fmt.Sprintf(format, args...))
}
