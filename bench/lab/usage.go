package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CPU is the time, user and system together, that processes and their children
// have used, as the kernel counts it. It reads the scheduler's counters, which
// are in nanoseconds; /proc/PID/stat, where these are missing, is in ticks of
// ten milliseconds.
func CPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		for _, p := range family(pid) {
			d, err := scheduled(p)
			if err != nil {
				if d, err = ticks(p); err != nil {
					return 0, err
				}
			}
			sum += d
		}
	}
	return sum, nil
}

// family is a process and its children.
func family(pid int) []int {
	all := []int{pid}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return all // the kernel may be built without it
	}
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// scheduled adds up the threads of a process. Threads that have ended are
// missing, but those of proxies live as long as the process.
func scheduled(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no scheduler statistics of process %d", pid)
	}
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := bytes.Cut(b, []byte(" "))
		n, err := strconv.ParseInt(string(first), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// Switches is how often the threads of processes and of their children gave up
// the processor, or lost it.
func Switches(pids ...int) (uint64, error) {
	var sum uint64
	for _, pid := range pids {
		for _, p := range family(pid) {
			files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p))
			if err != nil || len(files) == 0 {
				return 0, fmt.Errorf("no status of process %d", p)
			}
			for _, f := range files {
				b, err := os.ReadFile(f)
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
					continue
				}
				if err != nil {
					return 0, err
				}
				sum += switches(b)
			}
		}
	}
	return sum, nil
}

// switches adds up both kinds in the status of a thread.
func switches(status []byte) uint64 {
	var sum uint64
	for line := range strings.Lines(string(status)) {
		if name, value, _ := strings.Cut(line, ":"); strings.HasSuffix(name, "voluntary_ctxt_switches") {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			sum += n
		}
	}
	return sum
}

func ticks(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may have spaces in it.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// Memory is what the largest of the processes and their children has, in MB of
// a million bytes: RSS is all that is resident, Anon what is not backed by
// files, so not shared with other processes of the same program.
func Memory(pids ...int) (rss, anon float64, err error) {
	for _, pid := range pids {
		for _, p := range family(pid) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
			if err != nil {
				return 0, 0, err
			}
			r := kilobytes(b, "Rss:")
			if r > rss {
				rss, anon = r, kilobytes(b, "Anonymous:")
			}
		}
	}
	return rss, anon, nil
}

// kilobytes is a line of smaps_rollup, in MB.
func kilobytes(b []byte, name string) float64 {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return n * 1024 / 1e6
		}
	}
	return 0
}
