package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
)

// runProxy is linkerd2-proxy.
func runProxy(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		// The proxy has no arguments; the image's entry point passes none.
		fmt.Fprintf(stderr, "linkerd2-proxy: unexpected argument %q\n", args[0])
		return exitUsage
	}
	lookup := lookupIn(env)
	// The processors that affinity and cgroup leave to the process.
	cfg, problems := config.Load(lookup, runtime.GOMAXPROCS(0))
	log, err := logs.New(logs.Options{Out: stdout, Filter: cfg.Log.Filter, JSON: cfg.Log.JSON})
	if err != nil {
		fmt.Fprintf(stderr, "Invalid configuration: invalid log filter: %v\n", err)
		return config.ExitCode
	}
	l := logs.For(log.Logger(), "linkerd_app::env")
	for _, w := range problems.Warnings {
		l.Warn(w)
	}
	for _, e := range problems.Errors {
		l.Error(e.Error())
	}
	if err := problems.Err(); err != nil {
		fmt.Fprintln(stderr, err)
		return config.ExitCode
	}
	runtime.GOMAXPROCS(cfg.Workers.Count)
	var memory func() (overload.Usage, error)
	if m, err := overload.Open("/"); err == nil {
		// Left open: somebody may still be reading it when the proxy ends.
		memory = m.Read
	} else if !errors.Is(err, overload.ErrUnlimited) {
		l.Warn("Memory limit cannot be watched", "error", err)
	}
	if _, ok := lookup("GOGC"); !ok {
		// Requests allocate next to nothing, so collecting at half the heap
		// that the runtime would wait for costs little and saves megabytes in
		// every pod.
		debug.SetGCPercent(50)
	}
	a, err := app.New(app.Options{
		Config: cfg, Log: log, Profile: profiling(lookup), Memory: memory,
		// The first connections to the controllers are part of the start.
		Started: func() { time.AfterFunc(settled, dropPages) },
		Trimmed: dropPages,
	})
	if err != nil {
		fmt.Fprintln(stderr, err)
		if errors.Is(err, config.ErrInvalid) {
			return config.ExitCode
		}
		return exitFailed
	}
	if err := a.Run(ctx); err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}

// settled is how long after the start only what runs is needed.
const settled = 3 * time.Second

// lookupIn looks variables up in a list of NAME=value, the last one of a name.
func lookupIn(env []string) func(string) (string, bool) {
	m := make(map[string]string, len(env))
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[k] = v
		}
	}
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

// profiling reports whether the admin port offers profiles.
func profiling(lookup func(string) (string, bool)) bool {
	v, _ := lookup("LINKERD2_PROXY_PPROF")
	return v == "true"
}
