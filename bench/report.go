package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printRows prints the table: the rows, and the ratio of CPU per request, or of
// bytes per CPU second, to nginx, or to HAProxy where there is no nginx.
func printRows(w io.Writer, rows []*row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tsystem\tCPU µs/req\tratio\treq/s\tp50 ms\tp99 ms\tp99.9 ms\tRSS MB\tanon MB\tMB/CPU s\tallocs/req\t")
	for _, r := range rows {
		ratio := quotient(r.CPUPerReq, find(rows, r.Scenario, nginx).CPUPerReq)
		if ratio == nil {
			ratio = quotient(r.BytesPerCPU, find(rows, r.Scenario, haproxy).BytesPerCPU)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Scenario, r.System, text(r.CPUPerReq, 1), text(ratio, 2), text(r.RPS, 0),
			text(r.P50, 3), text(r.P99, 3), text(r.P999, 3), text(r.RSS, 1), text(r.Anon, 1), text(scaled(r.BytesPerCPU, 1e-6), 0), text(r.AllocsPerReq, 2))
	}
	t.Flush()
}

func text(v *float64, digits int) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, *v)
}

func scaled(v *float64, by float64) *float64 {
	if v == nil {
		return nil
	}
	return number(*v * by)
}

func quotient(a, b *float64) *float64 {
	if a == nil || b == nil || *b == 0 {
		return nil
	}
	return number(*a / *b)
}

func difference(a, b *float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	return number(*a - *b)
}

// find is the row of a system, an empty one if it was not measured.
func find(rows []*row, scenario, system string) *row {
	for _, r := range rows {
		if r.Scenario == scenario && r.System == system {
			return r
		}
	}
	return &row{}
}

// A verdict compares a figure with what is wanted of it.
type verdict struct {
	Scenario string  `json:"scenario"`
	Figure   string  `json:"figure"`
	Value    float64 `json:"value"`
	// Bar and Aim are null for what is only reported.
	Bar *float64 `json:"bar"`
	Aim *float64 `json:"aim"`
	// Met is "aim", "bar", "missed" or "reported".
	Met string `json:"met"`
}

// bar compares a figure with what is wanted of it. Figures that should be low
// have an aim not above the bar; those that should be high have an aim above it.
func bar(scenario, figure string, value, bar, aim float64) verdict {
	v := verdict{Scenario: scenario, Figure: figure, Value: value, Bar: &bar, Aim: &aim, Met: "missed"}
	reaches := func(limit float64) bool {
		if aim > bar {
			return value >= limit
		}
		return value <= limit
	}
	switch {
	case reaches(aim):
		v.Met = "aim"
	case reaches(bar):
		v.Met = "bar"
	}
	return v
}

// reported is the verdict on a figure of which nothing is wanted.
func reported(scenario, figure string, value float64) verdict {
	return verdict{Scenario: scenario, Figure: figure, Value: value, Met: "reported"}
}

// judge compares what was measured with the bars. before is the resident memory, by
// scenario and system, before the connections that a scenario is about.
func judge(rows []*row, before map[string]map[string]float64) []verdict {
	all := []verdict{}
	add := func(scenario, figure string, value *float64, limit, aim float64) {
		if value != nil {
			all = append(all, bar(scenario, figure, *value, limit, aim))
		}
	}
	report := func(scenario, figure string, value *float64) {
		if value != nil {
			all = append(all, reported(scenario, figure, *value))
		}
	}
	own := func(scenario string) *row { return find(rows, scenario, ours) }
	for _, c := range []struct {
		scenario string
		bar, aim float64
	}{{"inbound-h1", 1.5, 1.2}, {"pair-h1", 3.2, 2.6}, {"pair-grpc-unary", 3.2, 2.6}} {
		add(c.scenario, "CPU per request, × nginx", quotient(own(c.scenario).CPUPerReq, find(rows, c.scenario, nginx).CPUPerReq), c.bar, c.aim)
	}
	// A cliff would be a larger body that costs more for each of its bytes.
	add("pair-h1-64k", "CPU per KiB, × that of pair-h1-1k", quotient(scaled(own("pair-h1-64k").CPUPerReq, 1./64), own("pair-h1-1k").CPUPerReq), 1, 0.25)
	add("tcp-mtls", "bytes per CPU second, × HAProxy", quotient(own("tcp-mtls").BytesPerCPU, find(rows, "tcp-mtls", haproxy).BytesPerCPU), 0.8, 1)
	add("tcp-plain", "bytes per CPU second, × HAProxy", quotient(own("tcp-plain").BytesPerCPU, find(rows, "tcp-plain", haproxy).BytesPerCPU), 0.95, 1)
	// added is what ours adds to a direct request, as a multiple of what nginx adds.
	added := func(scenario string, quantile func(*row) *float64) *float64 {
		base := quantile(find(rows, scenario, direct))
		return quotient(difference(quantile(own(scenario)), base), difference(quantile(find(rows, scenario, nginx)), base))
	}
	p50, p99 := func(r *row) *float64 { return r.P50 }, func(r *row) *float64 { return r.P99 }
	add("pair-latency", "added p99, × that of two nginx hops", added("pair-latency", p99), 1, 0.5)
	report("pair-latency", "added p50, × that of two nginx hops", added("pair-latency", p50))
	report("pair-latency-mtls", "added p99, × that of two nginx hops with mTLS", added("pair-latency-mtls", p99))
	report("pair-latency-mtls", "added p50, × that of two nginx hops with mTLS", added("pair-latency-mtls", p50))
	add("idle", "RSS, MB", own("idle").RSS, 16, 10)
	add("idle", "anonymous, MB", own("idle").Anon, 6, 4)
	if b, ok := before["idle-conns"][ours]; ok {
		add("idle-conns", "KB per connection", scaled(difference(own("idle-conns").RSS, &b), 1000./idleConns), 12, 6)
	}
	if b, ok := before["burst"][ours]; ok {
		add("burst", "RSS, × before", quotient(own("burst").RSS, &b), 1.3, 1.1)
	}
	add("inbound-h1", "allocations per request", own("inbound-h1").AllocsPerReq, 3, 0)
	add("pair-h1", "allocations per request, both proxies", own("pair-h1").AllocsPerReq, 6, 0)
	for _, name := range []string{"control-change", "control-change-spread", "control-change-outbound", "control-change-inbound"} {
		add(name, "p99 from a change to the last stream, ms", own(name).P99, 1000, 200)
	}
	// A call is a stream at each of the two proxies, on both sides.
	add("pair-grpc-unary", "allocations per call, both proxies", own("pair-grpc-unary").AllocsPerReq, 12, 0)
	return all
}

func plain(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprint(*v)
}

func printVerdicts(w io.Writer, verdicts []verdict) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scenario\tfigure\tvalue\tbar\taim\tmet")
	for _, v := range verdicts {
		fmt.Fprintln(t, strings.Join([]string{v.Scenario, v.Figure, fmt.Sprintf("%.2f", v.Value), plain(v.Bar), plain(v.Aim), v.Met}, "\t"))
	}
	t.Flush()
}
