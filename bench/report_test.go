package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestBar(t *testing.T) {
	for _, c := range []struct {
		value, bar, aim float64
		want            string
	}{
		{1.2, 1.5, 1.2, "aim"}, {1.4, 1.5, 1.2, "bar"}, {1.6, 1.5, 1.2, "missed"},
		{1.1, 0.8, 1, "aim"}, {0.9, 0.8, 1, "bar"}, {0.7, 0.8, 1, "missed"},
		{0, 0, 0, "aim"}, {1, 0, 0, "missed"},
	} {
		if got := bar("s", "f", c.value, c.bar, c.aim).Met; got != c.want {
			t.Errorf("%v of bar %v and aim %v: %s, want %s", c.value, c.bar, c.aim, got, c.want)
		}
	}
}

// TestReported: a figure of which nothing is wanted has neither bar nor aim, for people and for programs.
func TestReported(t *testing.T) {
	v := reported("burst", "MB", 1.5)
	var table strings.Builder
	printVerdicts(&table, []verdict{v})
	if _, line, _ := strings.Cut(table.String(), "\n"); strings.Join(strings.Fields(line), " ") != "burst MB 1.50 – – reported" {
		t.Errorf("got %s", table.String())
	}
	data, err := json.Marshal(v)
	if err != nil || string(data) != `{"scenario":"burst","figure":"MB","value":1.5,"bar":null,"aim":null,"met":"reported"}` {
		t.Errorf("got %s, %v", data, err)
	}
}

func TestLatencies(t *testing.T) {
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	r := latencies("s", all)
	if *r.P50 != 50 || *r.P99 != 99 || *r.P999 != 100 {
		t.Errorf("got %v %v %v", *r.P50, *r.P99, *r.P999)
	}
}
