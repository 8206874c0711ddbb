package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// measured is a scenario without anything to measure.
func measured(name string, err error) scenario {
	return scenario{name: name, memory: func(r *runner, s scenario) error {
		r.rows = append(r.rows, &row{Scenario: s.name, System: ours, RSS: number(9)})
		return err
	}}
}

func rowsIn(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "latest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Scenario)
	}
	return strings.Join(names, " ")
}

// TestAScenarioThatFails is named in the end, and costs the others nothing.
func TestAScenarioThatFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latest.json"), []byte(`[{"scenario":"of another run"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("out of order")
	r := &runner{o: options{out: dir}, rows: []*row{}}
	err := r.all([]scenario{
		{name: "first", memory: func(*runner, scenario) error {
			if got := rowsIn(t, dir); got != "" {
				t.Errorf("before the first scenario there are rows: %s", got)
			}
			return nil
		}},
		measured("idle", nil),
		measured("broken", broken),
		{name: "last", memory: func(*runner, scenario) error {
			// Whatever happens from here on, these have been written.
			if got := rowsIn(t, dir); got != "idle broken" {
				t.Errorf("before the last scenario there are: %s", got)
			}
			return nil
		}},
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "1 of 4 scenarios failed\nbroken: out of order") {
		t.Errorf("the error says: %v", err)
	}
	bars, err := os.ReadFile(filepath.Join(dir, "bars.json"))
	if err != nil || !strings.Contains(string(bars), `"idle"`) {
		t.Errorf("verdicts: %s, %v", bars, err)
	}
}

// TestTheWorldIsMadeOnce: what failed once is not tried by every scenario that
// would need it.
func TestTheWorldIsMadeOnce(t *testing.T) {
	broken := errors.New("no API server")
	r := &runner{o: options{out: t.TempDir()}, rows: []*row{}, tried: true, worldErr: broken}
	for range 2 {
		if err := r.ready(); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
}

// TestEverythingTakesLessThanTenMinutes adds up what the scenarios of the data
// plane are bound to take; those of the control plane take some two minutes more.
func TestEverythingTakesLessThanTenMinutes(t *testing.T) {
	e := thorough
	// Starting the generator, and asking for the allocations before and after.
	const start = 250 * time.Millisecond
	var sum time.Duration
	for _, s := range scenarios {
		turns, each := 0, time.Duration(0)
		switch {
		case s.name == "idle":
			sum += e.settle
		case s.name == "idle-conns":
			sum += 2*e.settle + 5*time.Second
		case s.name == "burst":
			sum += e.settle + e.calm + 15*time.Second
		case s.latency:
			turns, each = e.latencyTurns, e.latencyTurn
		case s.load != nil:
			turns, each = e.turns, e.turn
			fallthrough
		case s.bulk != nil:
			sum += time.Duration(len(s.systems)*e.rounds) * (start + e.warm + e.round)
		}
		sum += time.Duration(len(s.systems)*turns) * (start + e.warm + each)
	}
	t.Logf("%v", sum)
	if sum > 7*time.Minute+50*time.Second {
		t.Errorf("the data plane takes %v", sum)
	}
}

func TestLatencyIsJudgedByWhatProxiesAdd(t *testing.T) {
	of := func(scenario, system string, p50, p99 float64) *row {
		return &row{Scenario: scenario, System: system, P50: number(p50), P99: number(p99)}
	}
	got := map[string]string{}
	for _, v := range judge([]*row{
		of("pair-latency", direct, 1, 2), of("pair-latency", nginx, 3, 6), of("pair-latency", ours, 4, 8),
		of("pair-latency-mtls", direct, 1, 2), of("pair-latency-mtls", nginx, 5, 10), of("pair-latency-mtls", ours, 4, 6),
	}, nil) {
		got[v.Scenario+": "+v.Figure] = fmt.Sprint(v.Value, " ", v.Met)
	}
	want := map[string]string{
		"pair-latency: added p99, × that of two nginx hops":                "1.5 missed",
		"pair-latency: added p50, × that of two nginx hops":                "1.5 reported",
		"pair-latency-mtls: added p99, × that of two nginx hops with mTLS": "0.5 reported",
		"pair-latency-mtls: added p50, × that of two nginx hops with mTLS": "0.75 reported",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMemoryIsJudgedByWhatConnectionsAdd(t *testing.T) {
	rows := []*row{
		{Scenario: "idle-conns", System: ours, RSS: number(20)},
		{Scenario: "burst", System: ours, RSS: number(12)},
	}
	before := map[string]map[string]float64{"idle-conns": {ours: 14}, "burst": {ours: 10}}
	got := map[string]float64{}
	for _, v := range judge(rows, before) {
		got[v.Scenario] = v.Value
	}
	if got["idle-conns"] != 6 || got["burst"] != 1.2 {
		t.Errorf("got %v", got)
	}
}
