package app

import (
	"os"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/tracing"
)

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
