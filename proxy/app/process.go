package app

import (
	"bytes"
	"crypto/fips140"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"syscall"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/version"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
)

// build is what the linker knows of the build, set with -ldflags
// "-X github.com/linkerd-go/linkerd-go/proxy/app.buildSHA=…".
var (
	buildSHA  = ""
	buildDate = ""
	build     = struct{ SHA, Date string }{buildSHA, buildDate}
)

const vendor = "linkerd-go"

// release is the first line of the log. A build that was
// not stamped, as those of a checkout, leaves out what it does not know.
func release() string {
	if build.SHA == "" || build.Date == "" {
		return "release " + version.Version + " by " + vendor
	}
	return fmt.Sprintf("release %s (%s) by %s on %s", version.Version, build.SHA, vendor, build.Date)
}

// processMetrics adds what is told about the process (proxy chapter, section
// 23.11).
func processMetrics(reg *metric.Registry, started time.Time) {
	gauge, seconds := metric.Option(metric.Gauge), metric.Unit("seconds")
	reg.Open("proxy_build_info", "Proxy build info", gauge).Gauge(metric.Labels(
		"date", build.Date, "git_sha", build.SHA, "profile", "release", "vendor", vendor, "version", version.Version)).Set(1)
	// The name is that of the upstream proxy's library; the values are ours. Source: proxy chapter, sections 6.1 and 23.
	suites, groups := "TLS13_AES_128_GCM_SHA256,TLS13_AES_256_GCM_SHA384,TLS13_CHACHA20_POLY1305_SHA256,", "X25519MLKEM768,X25519,secp256r1,secp384r1,"
	if fips140.Enabled() {
		suites, groups = "TLS13_AES_256_GCM_SHA384,TLS13_AES_128_GCM_SHA256,", "secp256r1,secp384r1,"
	}
	reg.Open("rustls_info", "Proxy TLS info", gauge).Gauge(metric.Labels("tls_suites", suites, "tls_kx_groups", groups,
		"tls_rand", "go", "tls_key_provider", "go", "tls_fips", strconv.FormatBool(fips140.Enabled()))).Set(1)
	reg.Open("process_start_time_seconds", "Time that the process started (in seconds since the UNIX epoch)", gauge, seconds).
		Gauge("").Set(float64(started.UnixMilli()) / 1000)
	reg.Open("process_uptime_seconds", "Total time since the process started (in seconds)", seconds).
		Func("", func() float64 { return time.Since(started).Seconds() })
	reg.Open("process_cpu_seconds", "Total user and system CPU time spent in seconds", seconds).Func("", cpuSeconds)
	reg.Open("process_virtual_memory_bytes", "Virtual memory size in bytes", gauge, metric.Unit("bytes")).
		Func("", func() float64 { return statm(0) })
	reg.Open("process_resident_memory_bytes", "Resident memory size in bytes", gauge, metric.Unit("bytes")).
		Func("", func() float64 { return statm(1) })
	reg.Open("process_open_fds", "Number of open file descriptors", gauge).Func("", openFDs)
	reg.Open("process_max_fds", "Maximum number of open file descriptors", gauge).Func("", maxFDs)
	reg.Open("process_threads", "Number of OS threads in the process.", gauge).Func("", threads)
	reg.Open("go_gc_heap_allocs_objects", "Total number of objects allocated on the heap").Func("", allocations)
	reg.Open("go_goroutines", "Number of goroutines", gauge).Func("", func() float64 { return float64(runtime.NumGoroutine()) })
}

// droppedSeries adds the count of series that there was no room for; the name is
// ours.
func droppedSeries(reg *metric.Registry) {
	reg.Open("proxy_metrics_dropped_series", "Series that were given up because their family had too many").
		Func("", func() float64 { return float64(reg.Dropped()) })
}

// memoryMetrics adds what is told about the memory limit; the names are ours.
func memoryMetrics(reg *metric.Registry, g *overload.Guard) {
	gauge, unit := metric.Option(metric.Gauge), metric.Unit("bytes")
	reg.Open("proxy_memory_limit_bytes", "Limit of the process's memory", gauge, unit).
		Func("", func() float64 { return float64(g.Stats().Usage.Limit) })
	reg.Open("proxy_memory_used_bytes", "Memory in use that counts towards the limit", gauge, unit).
		Func("", func() float64 { return float64(g.Stats().Usage.Used) })
	reg.Open("proxy_memory_shedding", "Whether load is being shed because memory is scarce", gauge).Func("", func() float64 {
		if g.Stats().Scarce {
			return 1
		}
		return 0
	})
	reg.Open("proxy_memory_reset_connections", "Connections that were reset because memory was running out").
		Func("", func() float64 { return float64(g.Stats().Reset) })
}

func cpuSeconds() float64 { return cpuTime().Seconds() }

// cpuTime is the processor time that the process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// allocations is what the benchmark divides by requests.
func allocations() float64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(s)
	return float64(s[0].Value.Uint64())
}

// statm is a field of /proc/self/statm, in bytes.
func statm(field int) float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if field >= len(f) {
		return 0
	}
	n, _ := strconv.ParseInt(string(f[field]), 10, 64)
	return float64(n) * float64(os.Getpagesize())
}

func openFDs() float64 {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	// One of them was opened to look.
	return float64(max(len(names)-1, 0))
}

func maxFDs() float64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return float64(l.Cur)
}

func threads() float64 {
	d, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(d, []byte("\nThreads:"))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	return float64(n)
}
