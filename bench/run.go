package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/linkerd-go/linkerd-go/bench/lab"
	"github.com/linkerd-go/linkerd-go/bench/load"
)

// A row is one line of the table; what does not apply is null.
type row struct {
	Scenario     string   `json:"scenario"`
	System       string   `json:"system"`
	CPUPerReq    *float64 `json:"cpu_us_per_req"`
	RPS          *float64 `json:"rps"`
	P50          *float64 `json:"p50_ms"`
	P99          *float64 `json:"p99_ms"`
	P999         *float64 `json:"p999_ms"`
	RSS          *float64 `json:"rss_mb"`
	Anon         *float64 `json:"anon_mb"`
	BytesPerCPU  *float64 `json:"bytes_per_cpu_s"`
	AllocsPerReq *float64 `json:"allocs_per_req"`
}

// runner measures scenarios one after the other.
type runner struct {
	o                   options
	lab                 *lab.Lab
	rounds              int
	warm, round, steady time.Duration
	rows                []*row
	// before is the resident memory, by system, before the burst.
	before map[string]float64
	// dir is for programs and logs; measured and others are the processors.
	dir, measured, others string
	// world is that of the control plane, once somebody needed it; wantsControl
	// says that somebody will.
	world        *world
	wantsControl bool
	// figures are those that are in no row.
	figures []verdict
}

// logs is the end of what each process has said.
func (r *runner) logs() string {
	var text string
	if r.lab != nil {
		text = r.lab.Logs()
	}
	if r.world != nil {
		text += r.world.Logs()
	}
	return text
}

func (r *runner) run(s scenario) error {
	if s.memory != nil {
		return s.memory(r, s)
	}
	if s.control != nil {
		if err := r.populate(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return s.control(r, ctx, s)
	}
	stop, err := r.startProfile(s)
	if err != nil {
		return err
	}
	rows := make([]*row, len(s.systems))
	cpu, rps, bytes, allocs := make([][]float64, len(rows)), make([][]float64, len(rows)), make([][]float64, len(rows)), make([][]float64, len(rows))
	for i, sys := range s.systems {
		rows[i] = &row{Scenario: s.name, System: sys.name}
	}
	rounds := r.rounds
	if s.latency {
		rounds = 0
	}
	// The systems take turns, so that a moment in which the machine is slow
	// does not hit one of them alone.
	for range rounds {
		for i, sys := range s.systems {
			o, a, err := r.once(s, sys, 0, r.round)
			if err != nil {
				return fmt.Errorf("%s: %w", sys.name, err)
			}
			if s.bulk != nil {
				if sys.processes != nil {
					bytes[i] = append(bytes[i], float64(o.Bulk.Bytes)/o.CPU.Seconds())
				}
				continue
			}
			n := float64(o.Load.Requests)
			rps[i] = append(rps[i], n/o.Load.Seconds)
			if sys.processes != nil {
				cpu[i] = append(cpu[i], float64(o.CPU.Microseconds())/n)
				bytes[i] = append(bytes[i], n*float64(2*s.load.Body)/o.CPU.Seconds())
			}
			if a != nil {
				allocs[i] = append(allocs[i], *a)
			}
		}
	}
	for i, sys := range s.systems {
		row := rows[i]
		row.CPUPerReq, row.RPS, row.AllocsPerReq = median(cpu[i]), median(rps[i]), median(allocs[i])
		if s.bulk != nil || s.load.Body >= 1<<10 {
			row.BytesPerCPU = median(bytes[i])
		}
		if err := r.memory(row, sys); err != nil {
			return err
		}
	}
	if s.rate > 0 {
		if err := r.latency(s, rows); err != nil {
			return err
		}
	}
	r.rows = append(r.rows, rows...)
	return stop()
}

// latency fills in what is measured at the fixed rate: the median of three
// turns of each system.
func (r *runner) latency(s scenario, rows []*row) error {
	turns := r.rounds
	p50, p99, p999 := make([][]float64, len(rows)), make([][]float64, len(rows)), make([][]float64, len(rows))
	each := r.steady / time.Duration(turns)
	if s.latency {
		each = 3 * r.steady / 4
	}
	for range turns {
		for i, sys := range s.systems {
			o, _, err := r.once(s, sys, s.rate, each)
			if err != nil {
				return fmt.Errorf("%s at a rate: %w", sys.name, err)
			}
			p50[i], p99[i], p999[i] = append(p50[i], o.Load.P50), append(p99[i], o.Load.P99), append(p999[i], o.Load.P999)
			if s.latency {
				rows[i].RPS = number(float64(o.Load.Requests) / o.Load.Seconds)
				if sys.processes != nil {
					rows[i].CPUPerReq = number(float64(o.CPU.Microseconds()) / float64(o.Load.Requests))
				}
			}
		}
	}
	for i, row := range rows {
		row.P50, row.P99, row.P999 = median(p50[i]), median(p99[i]), median(p999[i])
	}
	return nil
}

// once puts load on a system, without a rate until it is saturated. For ours it
// counts the allocations per request, of all proxies together.
func (r *runner) once(s scenario, sys system, rate int, d time.Duration) (o outcome, allocs *float64, err error) {
	var j job
	var procs []*lab.Process
	if sys.processes != nil {
		procs = sys.processes(r.lab)
	}
	for _, p := range procs {
		j.PIDs = append(j.PIDs, p.PID)
	}
	if s.bulk != nil {
		j.Bulk = &load.BulkOptions{Addr: sys.addr, Sending: s.bulk, Warm: r.warm, Duration: d}
	} else {
		l := *s.load
		l.Addr, l.Rate, l.Warm, l.Duration = sys.addr, rate, r.warm, d
		j.Load = &l
	}
	text, err := json.Marshal(j)
	if err != nil {
		return o, nil, err
	}
	before, err := r.allocations(sys, procs)
	if err != nil {
		return o, nil, err
	}
	out, err := r.lab.Run(sys.mesh, "load", string(text))
	if err != nil {
		return o, nil, err
	}
	after, err := r.allocations(sys, procs)
	if err != nil {
		return o, nil, err
	}
	err = json.Unmarshal(out, &o)
	if err == nil && s.load != nil && o.Load.Requests == 0 {
		err = fmt.Errorf("no request was answered")
	}
	if sys.name == ours && s.load != nil && err == nil {
		allocs = number(float64(after-before) / float64(o.Load.All))
	}
	return o, allocs, err
}

func (r *runner) allocations(sys system, procs []*lab.Process) (uint64, error) {
	if sys.name != ours {
		return 0, nil
	}
	var sum uint64
	for _, p := range procs {
		n, err := r.lab.Allocations(p)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// memory fills in what a system has.
func (r *runner) memory(row *row, sys system) error {
	if sys.processes == nil {
		return nil
	}
	var pids []int
	for _, p := range sys.processes(r.lab) {
		pids = append(pids, p.PID)
	}
	rss, anon, err := lab.Memory(pids...)
	if err != nil {
		return err
	}
	row.RSS, row.Anon = &rss, &anon
	return nil
}

// memories adds a row for each system.
func (r *runner) memories(s scenario) error {
	for _, sys := range s.systems {
		row := &row{Scenario: s.name, System: sys.name}
		if err := r.memory(row, sys); err != nil {
			return err
		}
		r.rows = append(r.rows, row)
		if sys.name == ours && r.o.profile != "" {
			if err := r.snapshot(s, sys.processes(r.lab)); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle is how long a system gets to come to rest before its memory counts.
func (r *runner) settle() {
	if r.o.quick {
		time.Sleep(time.Second)
		return
	}
	time.Sleep(5 * time.Second)
}

func (r *runner) idle(s scenario) error {
	r.settle()
	return r.memories(s)
}

// idleConns holds connections to all systems at once. To tell what one costs,
// memory is compared with that of the same processes after a first request.
func (r *runner) idleConns(s scenario) error {
	for _, sys := range s.systems {
		release, err := r.lab.Hold(sys.mesh, "hold", sys.addr.String(), strconv.Itoa(idleConns))
		if err != nil {
			return fmt.Errorf("%s: %w", sys.name, err)
		}
		defer release()
	}
	r.settle()
	return r.memories(s)
}

// idleConns is how many connections the scenario of that name has; burstConns
// that of burst.
const idleConns, burstConns = 1000, 5000

// burst bursts each system, then waits for all of them together.
func (r *runner) burst(s scenario) error {
	r.before = map[string]float64{}
	for _, sys := range s.systems {
		// What is compared with is a process that has served before.
		release, err := r.lab.Hold(sys.mesh, "hold", sys.addr.String(), "32")
		if err != nil {
			return fmt.Errorf("%s: %w", sys.name, err)
		}
		release()
		var before row
		if err := r.memory(&before, sys); err != nil {
			return err
		}
		r.before[sys.name] = *before.RSS
		if release, err = r.lab.Hold(sys.mesh, "hold", sys.addr.String(), strconv.Itoa(burstConns)); err != nil {
			return fmt.Errorf("%s: %w", sys.name, err)
		}
		release()
	}
	wait := time.Minute
	if r.o.quick {
		wait = 10 * time.Second
	}
	measured := make(chan error, 1)
	go func() {
		time.Sleep(wait)
		measured <- r.memories(s)
	}()
	// Meanwhile nothing is measured that other work could disturb: the control
	// plane's world can be made.
	var err error
	if r.wantsControl {
		err = r.populate()
	}
	return errors.Join(<-measured, err)
}

// startProfile begins profiles of the proxies of a scenario, if they are wanted,
// which last over all its rounds. stop waits for them.
func (r *runner) startProfile(s scenario) (stop func() error, err error) {
	nothing := func() error { return nil }
	if r.o.profile == "" {
		return nothing, nil
	}
	procs := s.systems[len(s.systems)-1].processes(r.lab)
	if err := os.MkdirAll(r.o.profile, 0o755); err != nil {
		return nil, err
	}
	seconds := max(int(float64(len(s.systems)*r.rounds)*(r.warm+r.round).Seconds()), 5)
	errs := make(chan error, len(procs))
	for _, p := range procs {
		go func() {
			b, err := r.lab.Admin(p, fmt.Sprintf("/debug/pprof/profile.pb.gz?seconds=%d", seconds))
			if err == nil {
				err = os.WriteFile(filepath.Join(r.o.profile, s.name+"-"+p.Name+".cpu.prof"), b, 0o644)
			}
			errs <- err
		}()
	}
	return func() error {
		for range procs {
			if err := <-errs; err != nil {
				return err
			}
		}
		return r.snapshot(s, procs)
	}, nil
}

// snapshot writes what the admin ports of proxies tell.
func (r *runner) snapshot(s scenario, procs []*lab.Process) error {
	if err := os.MkdirAll(r.o.profile, 0o755); err != nil {
		return err
	}
	for _, p := range procs {
		for path, kind := range map[string]string{
			"/debug/pprof/heap.pb.gz": "heap.prof", "/debug/pprof/goroutine.pb.gz": "goroutines.prof", "/metrics": "metrics.txt",
		} {
			b, err := r.lab.Admin(p, path)
			if err == nil {
				err = os.WriteFile(filepath.Join(r.o.profile, s.name+"-"+p.Name+"."+kind), b, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func number(v float64) *float64 { return &v }

func median(v []float64) *float64 {
	if len(v) == 0 {
		return nil
	}
	v = slices.Sorted(slices.Values(v))
	return number((v[(len(v)-1)/2] + v[len(v)/2]) / 2)
}
