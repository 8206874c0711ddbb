package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/bench/control"
	"github.com/linkerd-go/linkerd-go/bench/lab"
)

// Sizes of the control plane's world: that of the issue, and the steps on the
// way there, in services and proxies.
var sizes = []struct{ services, proxies int }{{125, 500}, {250, 1000}, {500, 2000}}

const (
	// changes is how often one service is changed that all proxies follow,
	// spread how many services are changed of those that a few follow each, and
	// spreadRate how many of them per second.
	changes, spread, spreadRate = 100, 500, 50
	// coldStarts is how often each controller is started.
	coldStarts = 3
	// limit bounds a scenario that hangs. It is far from what one takes on a machine
	// that is slow with hundreds of changes after each other; each of them has a
	// limit of its own (control.Fleet).
	limit = 30 * time.Minute
	// rest is how long controllers get to come to rest before their memory
	// counts, restAfter the same after everything has gone, and before it comes:
	// as long, so that what a start took has been given back as well.
	rest, restAfter = 6 * time.Second, 20 * time.Second
)

// world is the control plane's lab, with what was seen while it grew.
type world struct {
	*control.Lab
	// before is the memory of both controllers when there was one service, at
	// that at each of sizes.
	before memory
	at     []memory
	// cpu is what learning the objects and the streams of each size took.
	cpu []time.Duration
}

// memory is that of the two controllers, in MB.
type memory struct{ destination, policy, anon float64 }

func (m memory) sum() float64 { return m.destination + m.policy }

func (w *world) memory() (m memory, err error) {
	var anon1, anon2 float64
	if m.destination, anon1, err = lab.Memory(w.Destination.PID); err != nil {
		return m, err
	}
	if m.policy, anon2, err = lab.Memory(w.Policy.PID); err != nil {
		return m, err
	}
	m.anon = anon1 + anon2
	return m, nil
}

func (w *world) spent() (time.Duration, error) { return lab.CPU(w.Destination.PID, w.Policy.PID) }

// programs builds what the control plane's scenarios run, before anything is
// timed.
func (r *runner) programs() error {
	if r.o.devcluster == "" {
		fmt.Println("building the API server, which takes minutes the first time")
		if text, err := exec.Command("make", "--no-print-directory", "devcluster").CombinedOutput(); err != nil {
			return fmt.Errorf("build the API server: %w\n%s", err, text)
		}
		var err error
		if r.o.devcluster, err = filepath.Abs("bin/devcluster"); err != nil {
			return err
		}
	}
	if r.o.controller == "" {
		r.o.controller = filepath.Join(r.dir, "linkerd-controller")
		return goBuild(r.o.controller, "./cmd/linkerd-controller")
	}
	return nil
}

// goBuild builds a program as its image has it.
func goBuild(to, pkg string) error {
	build := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", to, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// populate makes the control plane's world, step by step, unless it is there.
func (r *runner) populate() error {
	if r.world != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	l, err := control.New(ctx, control.Options{
		Devcluster: r.o.devcluster, Controller: r.o.controller, Cluster: r.o.cluster, Dir: r.dir,
		Measured: r.measured, Others: r.others, Profile: r.o.profile != "",
	})
	if err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	w := &world{Lab: l}
	r.world = w
	// What is compared with are processes that have served before.
	if err := l.Grow(ctx, 1); err != nil {
		return err
	}
	if err := l.Fleet.Open(ctx, 2, func(int) int { return 0 }); err != nil {
		return err
	}
	time.Sleep(restAfter)
	if w.before, err = w.memory(); err != nil {
		return err
	}
	fmt.Printf("control plane: one service: destination %.1f MB, policy %.1f MB; %.0f s\n", w.before.destination, w.before.policy, time.Since(began).Seconds())
	for _, size := range sizes {
		spent, err := w.spent()
		if err != nil {
			return err
		}
		profiled := r.profileControl(fmt.Sprintf("control-memory-%d", size.services*control.EndpointsPerService), 15)
		if err := l.Grow(ctx, size.services); err != nil {
			return err
		}
		if err := <-profiled; err != nil {
			return err
		}
		if err := l.Fleet.Quiet(ctx, time.Second); err != nil {
			return err
		}
		if err := l.Fleet.Open(ctx, size.proxies, func(i int) int { return i % size.services }); err != nil {
			return err
		}
		time.Sleep(rest)
		now, err := w.spent()
		if err != nil {
			return err
		}
		m, err := w.memory()
		if err != nil {
			return err
		}
		w.at, w.cpu = append(w.at, m), append(w.cpu, now-spent)
		fmt.Printf("control plane: %d endpoints, %d proxies: destination %.1f MB, policy %.1f MB, %.1f s CPU more; %.0f s\n",
			size.services*control.EndpointsPerService, size.proxies, m.destination, m.policy, (now - spent).Seconds(), time.Since(began).Seconds())
	}
	if err := r.controlSnapshot("control-memory"); err != nil {
		return err
	}
	return l.Confine(ctx)
}

// controlSnapshot writes what the controllers' admin ports tell, if profiles are
// wanted.
func (r *runner) controlSnapshot(name string) error {
	if r.o.profile == "" {
		return nil
	}
	for path, kind := range map[string]string{
		"/debug/pprof/heap": "heap.prof", "/debug/pprof/goroutine": "goroutines.prof", "/metrics": "metrics.txt",
	} {
		if err := r.controlProfile(name, path, kind); err != nil {
			return err
		}
	}
	return nil
}

// controlProfile writes what both controllers answer.
func (r *runner) controlProfile(name, path, kind string) error {
	if err := os.MkdirAll(r.o.profile, 0o755); err != nil {
		return err
	}
	errs := make([]error, 2)
	var asked sync.WaitGroup
	for i, c := range []*control.Controller{r.world.Destination, r.world.Policy} {
		asked.Go(func() {
			b, err := c.Admin(context.Background(), path)
			if err == nil {
				err = os.WriteFile(filepath.Join(r.o.profile, name+"-"+c.Name+"."+kind), b, 0o644)
			}
			errs[i] = err
		})
	}
	asked.Wait()
	return errors.Join(errs...)
}

// profileControl begins a profile of both controllers, if profiles are wanted.
// The channel receives when it is over.
func (r *runner) profileControl(name string, seconds int) <-chan error {
	done := make(chan error, 1)
	if r.o.profile == "" {
		done <- nil
	} else {
		go func() {
			done <- r.controlProfile(name, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), "cpu.prof")
		}()
	}
	return done
}

// endpoints is how many thousands there are in the end.
const endpoints = 10.

func (r *runner) controlColdStart(ctx context.Context, s scenario) error {
	w := r.world
	type start struct {
		name  string
		start func() (*control.Controller, error)
		row   string
	}
	for _, c := range []start{{"destination", w.StartDestination, s.name}, {"policy", w.StartPolicy, s.name + "-policy"}} {
		var times, rss, anon, cpu []float64
		for range coldStarts {
			began := time.Now()
			started, err := c.start()
			if err != nil {
				return err
			}
			at, err := w.Fleet.FirstAnswer(ctx, started, 0)
			if err == nil {
				err = func() error {
					spent, err := lab.CPU(started.PID)
					if err != nil {
						return err
					}
					a, b, err := lab.Memory(started.PID)
					times, cpu = append(times, at.Sub(began).Seconds()*1e3), append(cpu, spent.Seconds()*1e3/endpoints)
					rss, anon = append(rss, a), append(anon, b)
					return err
				}()
			}
			started.Stop()
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		r.rows = append(r.rows, &row{Scenario: c.row, System: ours, P50: median(times), P99: number(slices.Max(times)), RSS: median(rss), Anon: median(anon)})
		r.figures = append(r.figures, reported(c.row, "CPU ms per 1,000 endpoints", *median(cpu)))
	}
	return nil
}

// latencies are those of changes until the last stream was told.
func latencies(name string, all []time.Duration) *row {
	slices.Sort(all)
	at := func(q float64) *float64 {
		return number(all[max(int(math.Ceil(q*float64(len(all))))-1, 0)].Seconds() * 1e3)
	}
	return &row{Scenario: name, System: ours, P50: at(0.5), P99: at(0.99), P999: at(0.999)}
}

func (r *runner) controlChange(ctx context.Context, s scenario) error {
	w := r.world
	n := changes
	if r.o.quick {
		n = 20
	}
	// Everybody follows one service.
	if err := w.Fleet.Open(ctx, sizes[len(sizes)-1].proxies, func(int) int { return 0 }); err != nil {
		return err
	}
	for _, c := range []struct {
		name   string
		change func(i int) (time.Duration, error)
	}{
		{s.name, func(i int) (time.Duration, error) { return w.Fleet.ChangeEndpoint(ctx, 0, i/2%10, i%2 == 1) }},
		{s.name + "-outbound", func(i int) (time.Duration, error) {
			return w.Fleet.ChangeOutbound(ctx, 0, time.Duration(i+1)*time.Second)
		}},
		{s.name + "-inbound", func(i int) (time.Duration, error) { return w.Fleet.ChangeInbound(ctx, fmt.Sprintf("client-%d", i+1)) }},
	} {
		err := r.told(c.name, func() ([]time.Duration, error) {
			var all []time.Duration
			for i := range n {
				d, err := c.change(i)
				if err != nil {
					return nil, err
				}
				all = append(all, d)
			}
			return all, nil
		})
		if err != nil {
			return err
		}
	}
	// Each service has a few who follow it; services change in turn, at a rate.
	if err := w.Fleet.Open(ctx, sizes[len(sizes)-1].proxies, func(i int) int { return i % spread }); err != nil {
		return err
	}
	return r.told(s.name+"-spread", func() ([]time.Duration, error) {
		all, errs := make([]time.Duration, spread), make([]error, spread)
		tick := time.NewTicker(time.Second / spreadRate)
		defer tick.Stop()
		var running sync.WaitGroup
		for i := range spread {
			<-tick.C
			running.Go(func() { all[i], errs[i] = w.Fleet.ChangeEndpoint(ctx, i, 3, false) })
		}
		running.Wait()
		return all, errors.Join(errs...)
	})
}

// told does changes, adds a row for them, and checks that the proxies have seen
// each of them once and nothing else.
func (r *runner) told(name string, change func() ([]time.Duration, error)) error {
	w := r.world
	spent, err := w.spent()
	if err != nil {
		return err
	}
	profiled := r.profileControl(name, 5)
	messages, began := w.Fleet.Messages(), time.Now()
	all, err := change()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := time.Since(began)
	now, err := w.spent()
	if err != nil {
		return err
	}
	if err := w.Fleet.Check(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	n := float64(w.Fleet.Messages() - messages)
	if err := <-profiled; err != nil {
		return err
	}
	row := latencies(name, all)
	row.CPUPerReq, row.RPS = number(float64((now-spent).Microseconds())/n), number(n/took.Seconds())
	r.rows = append(r.rows, row)
	return nil
}

// controlResync lets every watch begin anew, with nothing changed; then it
// changes what no proxy is told.
func (r *runner) controlResync(ctx context.Context, s scenario) error {
	w := r.world
	if err := w.Fleet.Quiet(ctx, time.Second); err != nil {
		return err
	}
	messages := w.Fleet.Messages()
	lists, err := w.RestartAPI(ctx)
	if err != nil {
		return err
	}
	if err := w.Fleet.Quiet(ctx, time.Second); err != nil {
		return err
	}
	resync := w.Fleet.Messages() - messages
	if err := w.Touch(ctx, "yes"); err != nil {
		return err
	}
	if err := w.Fleet.Quiet(ctx, time.Second); err != nil {
		return err
	}
	touch := w.Fleet.Messages() - messages - resync
	if err := w.Fleet.Check(); err != nil {
		return err
	}
	// The watches that have begun anew also see what comes then.
	d, err := w.Fleet.ChangeEndpoint(ctx, 1, 5, false)
	if err != nil {
		return err
	}
	if err := w.Fleet.Check(); err != nil {
		return err
	}
	m, err := w.memory()
	if err != nil {
		return err
	}
	r.rows = append(r.rows, &row{Scenario: s.name, System: ours, P50: number(d.Seconds() * 1e3), RSS: number(m.sum()), Anon: number(m.anon)})
	r.figures = append(r.figures, bar(s.name, "messages after the API server's restart", float64(resync), 0, 0),
		bar(s.name, "messages after 500 slices changed in what proxies are not told", float64(touch), 0, 0),
		reported(s.name, "lists that the new API server was asked for", float64(lists)))
	return nil
}

// controlMemory adds rows for what was seen while the world grew, then takes it
// apart.
func (r *runner) controlMemory(ctx context.Context, s scenario) error {
	w := r.world
	for i, m := range w.at {
		name := s.name
		if i < len(w.at)-1 {
			name = fmt.Sprintf("%s-%d", s.name, sizes[i].services*control.EndpointsPerService)
		}
		r.rows = append(r.rows, &row{Scenario: name, System: ours, RSS: number(m.sum()), Anon: number(m.anon)})
	}
	first, middle, last := w.at[0], w.at[1], w.at[2]
	// Each size has twice the endpoints and proxies of the one before.
	thousands := float64(sizes[2].services-sizes[0].services) * control.EndpointsPerService / 1000
	r.figures = append(r.figures, reported(s.name, "MB per 1,000 endpoints and 200 proxies, destination", (last.destination-first.destination)/thousands),
		reported(s.name, "MB per 1,000 endpoints and 200 proxies, policy", (last.policy-first.policy)/thousands))
	var cpu time.Duration
	for _, d := range w.cpu {
		cpu += d
	}
	r.figures = append(r.figures, reported(s.name, "CPU ms per 1,000 endpoints and 200 proxies, while they come, both", cpu.Seconds()*1e3/endpoints),
		bar(s.name, "growth from 5,000 to 10,000, × twice that from 2,500 to 5,000",
			(last.sum()-middle.sum())/2/(middle.sum()-first.sum()), 1.3, 1.1))
	w.Fleet.Close()
	if err := w.Shrink(ctx); err != nil {
		return err
	}
	time.Sleep(restAfter)
	after, err := w.memory()
	if err != nil {
		return err
	}
	r.rows = append(r.rows, &row{Scenario: s.name + "-after", System: ours, RSS: number(after.sum()), Anon: number(after.anon)})
	if err := r.controlSnapshot(s.name + "-after"); err != nil {
		return err
	}
	r.figures = append(r.figures,
		bar(s.name, "RSS 20 s after all has gone, × before, destination", after.destination/w.before.destination, 1.5, 1.3),
		bar(s.name, "RSS 20 s after all has gone, × before, policy", after.policy/w.before.policy, 1.5, 1.3))
	return nil
}
