// Package control is the world that the benchmark measures the controllers in:
// a real Kubernetes API server with a store, without anything that runs pods;
// the objects of a large cluster in it; the destination and the policy
// controller as processes of the real program; and simulated proxies.
//
//	lab, err := control.New(control.Options{...})
//	defer lab.Close()
//	lab.Grow(ctx, 125)        // services with 20 endpoints each
//	lab.Fleet.Grow(ctx, 500)  // proxies, each with a connection to both controllers
//
//	proxy 0 ─┐ Destination.Get              ┌─ destination ─┐
//	proxy 1 ─┼ OutboundPolicies.Watch  ◄────┤               ├──── kube-apiserver ── etcd
//	…       ─┘ or InboundServerPolicies     └─ policy ──────┘
//
// What is measured, the two controllers, has processors of its own once Confine
// was called; the API server, its store and the simulated proxies, which is this
// process, have the others then. A Lab is for one goroutine.
package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Options are what a Lab is made from.
type Options struct {
	// Devcluster and Controller are the paths of the two programs.
	Devcluster, Controller string
	// Cluster is the name of the API server's cluster. One that is there is
	// removed first.
	Cluster string
	// Dir is where logs go.
	Dir string
	// Measured and Others are the processors, as taskset takes them.
	Measured, Others string
	// Profile turns the controllers' profiles on.
	Profile bool
}

// Lab is a world that runs.
type Lab struct {
	// Destination and Policy are the controllers that the fleet is connected
	// to.
	Destination, Policy *Controller
	// Fleet are the simulated proxies.
	Fleet *Fleet

	options Options
	api     *apiServer
	clients *kube.Clients
	// services are those that exist, in the order in which they were made.
	services []*service
	// restarts counts the controllers started, for the names of their logs.
	restarts int
}

// New starts the API server, gives it what every cluster with the mesh has, and
// starts both controllers.
func New(ctx context.Context, options Options) (*Lab, error) {
	l := &Lab{options: options, api: &apiServer{binary: options.Devcluster, cluster: options.Cluster}}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, l.Logs()), l.Close())
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	// What a killed run left would be in the way.
	if err := l.api.down(ctx); err != nil {
		return err
	}
	if err := l.api.up(ctx); err != nil {
		return err
	}
	var err error
	if l.clients, err = l.api.connect(); err != nil {
		return err
	}
	if err := l.ground(ctx); err != nil {
		return err
	}
	if l.Destination, err = l.StartDestination(); err != nil {
		return err
	}
	if l.Policy, err = l.StartPolicy(); err != nil {
		return err
	}
	if err := l.Destination.WaitReady(ctx); err != nil {
		return err
	}
	if err := l.Policy.WaitReady(ctx); err != nil {
		return err
	}
	l.Fleet = newFleet(l)
	return nil
}

// Close ends everything.
func (l *Lab) Close() error {
	if l.Fleet != nil {
		l.Fleet.Close()
	}
	for _, c := range []*Controller{l.Destination, l.Policy} {
		if c != nil {
			c.Stop()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(l.api.down(ctx), unconfine())
}

// RestartAPI kills the API server and starts it again, with everything that it
// knew, and waits until the watches of pods, slices and Services have begun
// anew. It returns how many complete lists of these the new one was asked for.
func (l *Lab) RestartAPI(ctx context.Context) (lists int, err error) {
	if err := l.api.restart(ctx); err != nil {
		return 0, err
	}
	// Both controllers read pods and Services, one of them slices.
	const watches = 5
	for {
		if lists, err = l.lists(ctx); err != nil {
			return 0, err
		}
		if lists >= watches {
			return lists, nil
		}
		select {
		case <-ctx.Done():
			return lists, fmt.Errorf("%d of %d watches have begun anew: %w", lists, watches, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Logs is the end of what each process has said.
func (l *Lab) Logs() string {
	files, _ := filepath.Glob(filepath.Join(l.options.Dir, "control-*.log"))
	var b strings.Builder
	for _, c := range []*Controller{l.Destination, l.Policy} {
		if c == nil {
			continue
		}
		select {
		case <-c.ended:
			fmt.Fprintf(&b, "the %s controller has ended: %v\n", c.Name, c.exit)
		default:
		}
	}
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if len(text) > 0 {
			fmt.Fprintf(&b, "--- %s\n%s", filepath.Base(f), text[max(len(text)-2000, 0):])
		}
	}
	return b.String()
}

// Confine puts this process, the API server and its store on the processors that
// are not for what is measured. While the world is made, which takes most of the
// time, they have all. What is started later inherits it.
func (l *Lab) Confine(ctx context.Context) error {
	var set unix.CPUSet
	for field := range strings.SplitSeq(l.options.Others, ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("processors %q: %w", l.options.Others, err)
		}
		set.Set(n)
	}
	pids, err := l.api.pids(ctx)
	if err != nil {
		return err
	}
	all := []int{os.Getpid()}
	for _, pid := range pids {
		all = append(all, pid)
	}
	return affinity(&set, all...)
}

// unconfine takes Confine back for this process.
func unconfine() error {
	var set unix.CPUSet
	for i := range runtime.NumCPU() {
		set.Set(i)
	}
	return affinity(&set, os.Getpid())
}

// affinity chooses the processors of all threads of some processes.
func affinity(set *unix.CPUSet, pids ...int) error {
	for _, pid := range pids {
		// A thread that is begun meanwhile, by one that has not been moved yet, is
		// found the second time.
		for range 2 {
			threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			if err != nil {
				return fmt.Errorf("listing threads: %w", err)
			}
			for _, t := range threads {
				tid, err := strconv.Atoi(t.Name())
				if err != nil {
					continue
				}
				if err := unix.SchedSetaffinity(tid, set); err != nil && !errors.Is(err, unix.ESRCH) {
					return fmt.Errorf("choosing processors: %w", err)
				}
			}
		}
	}
	return nil
}
