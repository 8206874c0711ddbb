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

// effort is how long is measured.
type effort struct {
	// rounds is how many turns each system has at saturation, after warm for
	// round each; turns and turn are the same at the fixed rate, latencyTurns
	// and latencyTurn where that is all there is.
	rounds, turns, latencyTurns    int
	warm, round, turn, latencyTurn time.Duration
	// settle is how long a system gets to come to rest before its memory
	// counts, calm the same after a burst.
	settle, calm time.Duration
}

// thorough is for figures, hasty for development.
var (
	thorough = effort{
		rounds: 3, warm: 400 * time.Millisecond, round: 1500 * time.Millisecond,
		turns: 2, turn: time.Second, latencyTurns: 8, latencyTurn: time.Second,
		settle: 5 * time.Second, calm: time.Minute,
	}
	hasty = effort{
		rounds: 1, warm: 400 * time.Millisecond, round: 1500 * time.Millisecond,
		turns: 1, turn: time.Second, latencyTurns: 1, latencyTurn: 2 * time.Second,
		settle: 5 * time.Second, calm: 10 * time.Second,
	}
)

// runner measures scenarios one after the other.
type runner struct {
	o      options
	lab    *lab.Lab
	effort effort
	rows   []*row
	// before is the resident memory, by scenario and system, before there were
	// the connections that the scenario is about.
	before map[string]map[string]float64
	// dir is for programs and logs; measured and others are the processors.
	dir, measured, others string
	// world is that of the control plane, once somebody needed it; wantsControl
	// says that somebody will.
	world        *world
	wantsControl bool
	// tried says that the world was made, or tried to be, with worldErr.
	tried    bool
	worldErr error
	// figures are those that are in no row.
	figures []verdict
}

// logs is the end of what each process of a scenario has said.
func (r *runner) logs(s scenario) string {
	switch {
	case s.control == nil && r.lab != nil:
		return r.lab.Logs()
	case s.control != nil && r.world != nil:
		return r.world.Logs()
	}
	return ""
}

// all measures scenarios. What there is of rows is written after each of them. One
// that fails does not keep the others from being measured; the error names those
// that did.
func (r *runner) all(wanted []scenario) error {
	if err := r.save(); err != nil {
		return err
	}
	var failed []error
	for _, s := range wanted {
		began := time.Now()
		if err := r.run(s); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			failed = append(failed, err)
			fmt.Printf("%v\n%s", err, r.logs(s))
		}
		fmt.Printf("%s: %.0f s\n", s.name, time.Since(began).Seconds())
		if err := r.save(); err != nil {
			return err
		}
	}
	if failed != nil {
		return fmt.Errorf("%d of %d scenarios failed\n%w", len(failed), len(wanted), errors.Join(failed...))
	}
	return nil
}

// verdicts are those on what has been measured.
func (r *runner) verdicts() []verdict { return append(judge(r.rows, r.before), r.figures...) }

// save writes what has been measured.
func (r *runner) save() error {
	return errors.Join(writeJSON(filepath.Join(r.o.out, "latest.json"), r.rows), writeJSON(filepath.Join(r.o.out, "bars.json"), r.verdicts()))
}

// ready makes the control plane's world. If that fails it fails for everybody who
// needs it.
func (r *runner) ready() error {
	if !r.tried {
		r.tried, r.worldErr = true, r.populate()
	}
	return r.worldErr
}

func (r *runner) run(s scenario) error {
	if s.memory != nil {
		return s.memory(r, s)
	}
	if s.control != nil {
		if err := r.ready(); err != nil {
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
	rounds := r.effort.rounds
	if s.latency {
		rounds = 0
	}
	// The systems take turns, so that a moment in which the machine is slow
	// does not hit one of them alone.
	for range rounds {
		for i, sys := range s.systems {
			o, a, err := r.once(s, sys, 0, r.effort.round)
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

// latency fills in what is measured at the fixed rate: the median of the turns of
// each system.
func (r *runner) latency(s scenario, rows []*row) error {
	turns, each := r.effort.turns, r.effort.turn
	if s.latency {
		turns, each = r.effort.latencyTurns, r.effort.latencyTurn
	}
	p50, p99, p999 := make([][]float64, len(rows)), make([][]float64, len(rows)), make([][]float64, len(rows))
	rps, cpu, switches := make([][]float64, len(rows)), make([][]float64, len(rows)), make([][]float64, len(rows))
	for range turns {
		for i, sys := range s.systems {
			o, _, err := r.once(s, sys, s.rate, each)
			if err != nil {
				return fmt.Errorf("%s at a rate: %w", sys.name, err)
			}
			n := float64(o.Load.Requests)
			p50[i], p99[i], p999[i] = append(p50[i], o.Load.P50), append(p99[i], o.Load.P99), append(p999[i], o.Load.P999)
			rps[i] = append(rps[i], n/o.Load.Seconds)
			if sys.processes != nil {
				cpu[i], switches[i] = append(cpu[i], float64(o.CPU.Microseconds())/n), append(switches[i], float64(o.Switches)/n)
			}
		}
	}
	for i, row := range rows {
		row.P50, row.P99, row.P999 = median(p50[i]), median(p99[i]), median(p999[i])
		if !s.latency {
			continue
		}
		row.RPS, row.CPUPerReq = median(rps[i]), median(cpu[i])
		if v := median(switches[i]); v != nil {
			// What latency is made of, where the machine has nothing else to do.
			r.figures = append(r.figures, reported(s.name, "context switches per request, "+row.System, *v))
		}
	}
	return nil
}

// once puts load on a system, without a rate until it is saturated. For ours it
// then counts the allocations per request, of all proxies together.
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
		j.Bulk = &load.BulkOptions{Addr: sys.addr, Sending: s.bulk, Warm: r.effort.warm, Duration: d}
	} else {
		l := *s.load
		l.Addr, l.Rate, l.Warm, l.Duration = sys.addr, rate, r.effort.warm, d
		j.Load = &l
	}
	// To ask at a rate would hold up requests.
	j.Marks = sys.name == ours && j.Load != nil && rate == 0
	text, err := json.Marshal(j)
	if err != nil {
		return o, nil, err
	}
	var objects []uint64
	out, err := r.lab.Run(sys.mesh, func() error {
		n, err := r.allocations(procs)
		objects = append(objects, n)
		return err
	}, "load", string(text))
	if err != nil {
		return o, nil, err
	}
	err = json.Unmarshal(out, &o)
	if err == nil && s.load != nil && o.Load.Requests == 0 {
		err = fmt.Errorf("no request was answered")
	}
	if len(objects) == 2 && err == nil {
		allocs = number(float64(objects[1]-objects[0]) / float64(o.Load.Requests))
	}
	return o, allocs, err
}

func (r *runner) allocations(procs []*lab.Process) (uint64, error) {
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

// settle lets systems come to rest before their memory counts.
func (r *runner) settle() { time.Sleep(r.effort.settle) }

func (r *runner) idle(s scenario) error {
	r.settle()
	return r.memories(s)
}

// servedBefore notes the resident memory of all systems, as processes that have
// served before.
func (r *runner) servedBefore(s scenario) error {
	before := map[string]float64{}
	for _, sys := range s.systems {
		var now row
		if err := r.memory(&now, sys); err != nil {
			return err
		}
		before[sys.name] = *now.RSS
	}
	if r.before == nil {
		r.before = map[string]map[string]float64{}
	}
	r.before[s.name] = before
	return nil
}

// idleConns holds connections to all systems at once: some, and then those whose
// memory is to be told, for the first ones bring in pages of the program too.
func (r *runner) idleConns(s scenario) error {
	for _, n := range []int{firstConns, idleConns} {
		for _, sys := range s.systems {
			release, err := r.lab.Hold(sys.mesh, "hold", sys.addr.String(), strconv.Itoa(n))
			if err != nil {
				return fmt.Errorf("%s: %w", sys.name, err)
			}
			defer release()
		}
		r.settle()
		if n == firstConns {
			if err := r.servedBefore(s); err != nil {
				return err
			}
		}
	}
	return r.memories(s)
}

// idleConns is how many connections the scenario of that name has, after
// firstConns; burstConns that of burst. All are enough to have a proxy give memory
// back once they have come to rest.
const firstConns, idleConns, burstConns = 100, 1000, 5000

// burst bursts each system, then waits for all of them together. Right before memory
// is looked at each answers one request, as in a pod it has to every few seconds: a
// proxy that has let go of pages of its program would look smaller than it is, and
// whether it just has goes by what was measured before.
func (r *runner) burst(s scenario) error {
	burst := func(n int) error {
		for _, sys := range s.systems {
			release, err := r.lab.Hold(sys.mesh, "hold", sys.addr.String(), strconv.Itoa(n))
			if err != nil {
				return fmt.Errorf("%s: %w", sys.name, err)
			}
			release()
		}
		return nil
	}
	err := burst(firstConns)
	if err == nil {
		r.settle()
		err = burst(1)
	}
	if err == nil {
		err = r.servedBefore(s)
	}
	if err == nil {
		err = burst(burstConns)
	}
	if err != nil {
		return err
	}
	measured := make(chan error, 1)
	go func() {
		time.Sleep(r.effort.calm)
		if err := burst(1); err != nil {
			measured <- err
			return
		}
		measured <- r.memories(s)
	}()
	// Meanwhile nothing is measured that other work could disturb: the control
	// plane's world can be made. Who needs it is told if that fails.
	if r.wantsControl {
		_ = r.ready()
	}
	return <-measured
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
	seconds := max(int(float64(len(s.systems)*r.effort.rounds)*(r.effort.warm+r.effort.round).Seconds()), 5)
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
