package app

import (
	"os"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/discovery"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/tracing"
)

// trace makes the tracer and its way to the collector.
func (a *App) trace(set *series.Set, resolutions *metric.Family) error {
	c := &a.cfg.Trace
	cc, err := a.controlConfig("opentelemetry", c.Collector, set, resolutions)
	if err != nil {
		return err
	}
	var export tracing.Exporter
	if c.HTTP {
		dial, err := discovery.Dialer(cc)
		if err != nil {
			return err
		}
		export = tracing.OTLPHTTP(dial, cc.Addr.Authority())
	} else {
		conn, err := discovery.Connect(cc)
		if err != nil {
			return err
		}
		a.closers = append(a.closers, func() { conn.Close() })
		export = tracing.OTLP(conn)
		if c.OpenCensus {
			export = tracing.OpenCensus(conn)
		}
	}
	a.tracer = tracing.New(tracing.Options{
		Resource: a.traceResource(), Export: export, Now: a.o.Clock.Now, Sample: c.Sample,
		Log: logs.For(a.o.Log.Logger(), "linkerd_opentelemetry"),
	})
	traceMetrics(a.reg, a.tracer)
	return nil
}

// traceMetrics adds what is told about the export of spans (proxy chapter,
// section 23.7), and, by a name of ours, how many were dropped.
func traceMetrics(reg *metric.Registry, t *tracing.Tracer) {
	number := func(f *metric.Family, read func(tracing.Stats) uint64) {
		f.Func("", func() float64 { return float64(read(t.Stats())) })
	}
	number(reg.Legacy("opentelemetry_span_export_streams", "Number of exports that are under way.", metric.Gauge),
		func(s tracing.Stats) uint64 { return s.Streams })
	number(reg.Legacy("opentelemetry_span_export_requests", "Total count of requests to export spans."),
		func(s tracing.Stats) uint64 { return s.Requests })
	number(reg.Legacy("opentelemetry_span_exports", "Total count of spans that were exported."),
		func(s tracing.Stats) uint64 { return s.Exported })
	number(reg.Open("opentelemetry_spans_dropped", "Total count of spans that the collector was too slow for"),
		func(s tracing.Stats) uint64 { return s.Dropped })
}

// traceResource says which process spans are from; later sources win (proxy
// chapter, section 22.3).
func (a *App) traceResource() []tracing.Attribute {
	t := &a.cfg.Trace
	process := []tracing.Attribute{
		{Key: "process.pid", Int: int64(os.Getpid()), IsInt: true},
		{Key: "process.start_timestamp", Value: strconv.FormatInt(a.o.Clock.Now().Unix(), 10)},
	}
	if t.Hostname != "" {
		process = append(process, tracing.Attribute{Key: "host.name", Value: t.Hostname})
	}
	if t.ServiceName != "" {
		process = append(process, tracing.Attribute{Key: "service.name", Value: t.ServiceName})
	}
	var labels []tracing.Attribute
	if t.AttributesPath != "" {
		text, err := os.ReadFile(t.AttributesPath)
		if err != nil {
			// Spans without labels are better than none.
			a.log.Warn("Failed to read trace attributes", "path", t.AttributesPath, "error", err)
		}
		labels = tracing.ParseAttributes(string(text), "\n")
	}
	return tracing.Merge(process, labels, tracing.ParseAttributes(t.ExtraAttributes, "\n"), tracing.ParseAttributes(t.OTelAttributes, ","))
}
