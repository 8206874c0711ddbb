package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
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
	limitMemory(lookup)
	if _, ok := lookup("GOGC"); !ok {
		// Requests allocate next to nothing, so collecting at half the heap
		// that the runtime would wait for costs little and saves megabytes in
		// every pod.
		debug.SetGCPercent(50)
	}
	a, err := app.New(app.Options{
		Config: cfg, Log: log, Profile: profiling(lookup),
		// The first connections to the controllers are part of the start.
		Started: func() { time.AfterFunc(settled, dropPages) },
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
const settled = 10 * time.Second

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

// limitMemory keeps the heap below the container's limit, so that the garbage
// collector works harder before the kernel ends the process. What the operator
// set in GOMEMLIMIT counts more.
func limitMemory(lookup func(string) (string, bool)) {
	if _, ok := lookup("GOMEMLIMIT"); ok {
		return
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if limit, ok := memoryLimit(string(b)); ok {
			debug.SetMemoryLimit(limit)
			return
		}
	}
}

// memoryLimit is the soft limit for a cgroup's limit: a tenth stays free for
// what the runtime does not count, such as the kernel's socket buffers. There
// is none if the cgroup has none.
func memoryLimit(s string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/2 {
		return 0, false
	}
	return n / 10 * 9, true
}
