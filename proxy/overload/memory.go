package overload

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Memory reads the process's memory, and the limit that it is under.
type Memory struct {
	limit int64
	// heapMax is what the operator has set; 0 for none.
	heapMax int64
	// usage and stat are files of the control group; nil without one, when the
	// limit is the runtime's own.
	usage, stat *os.File
	// total says that the names in stat have the prefix "total_" (cgroup v1).
	total   bool
	samples [3]metrics.Sample
	buf     [4096]byte
}

// ErrUnlimited says that nothing limits the process's memory.
var ErrUnlimited = errors.New("memory is not limited")

// Open finds the limit: that of the control group, or else the one that the
// operator has set for the runtime (GOMEMLIMIT). root is "/", or a folder that
// stands for it in tests. Close has to be called. A Memory is for one goroutine
// at a time.
func Open(root string) (*Memory, error) {
	m := &Memory{samples: [3]metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}}
	if n := debug.SetMemoryLimit(-1); n < math.MaxInt64 {
		m.heapMax = n
	}
	for _, g := range groups(root) {
		limit, err := readLimit(filepath.Join(g.dir, g.limit))
		if err != nil {
			continue
		}
		m.limit, m.total = limit, g.total
		if m.usage, err = os.Open(filepath.Join(g.dir, g.usage)); err != nil {
			return nil, fmt.Errorf("memory of the control group: %w", err)
		}
		if m.stat, err = os.Open(filepath.Join(g.dir, "memory.stat")); err != nil {
			m.Close()
			return nil, fmt.Errorf("memory of the control group: %w", err)
		}
		return m, nil
	}
	if m.heapMax > 0 {
		m.limit = m.heapMax
		return m, nil
	}
	return nil, ErrUnlimited
}

// Close closes the files.
func (m *Memory) Close() {
	if m.usage != nil {
		m.usage.Close()
	}
	if m.stat != nil {
		m.stat.Close()
	}
}

// Limit is the limit in bytes.
func (m *Memory) Limit() int64 { return m.limit }

// group is where a control group's files may be.
type group struct {
	dir, limit, usage string
	total             bool
}

// groups are the places to look, the most specific first. In a container the
// group's own folder is usually mounted as if it were the root.
func groups(root string) []group {
	v2 := group{limit: "memory.max", usage: "memory.current"}
	v1 := group{limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", total: true}
	at := func(g group, elem ...string) group {
		g.dir = filepath.Join(append([]string{root, "sys/fs/cgroup"}, elem...)...)
		return g
	}
	var out []group
	text, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup")) // without it the roots are left
	for line := range strings.Lines(string(text)) {
		// "0::/path", or "4:memory:/path"
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) < 3:
		case f[1] == "":
			out = append(out, at(v2, f[2]))
		case containsField(f[1], "memory"):
			out = append(out, at(v1, "memory", f[2]))
		}
	}
	return append(out, at(v2), at(v1, "memory"))
}

func containsField(list, name string) bool {
	for f := range strings.SplitSeq(list, ",") {
		if f == name {
			return true
		}
	}
	return false
}

// readLimit reads a limit; "max", or a number that no machine has, is none.
func readLimit(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/2 {
		return 0, ErrUnlimited
	}
	return n, nil
}

// statFrom is the share of the limit from which it is looked into what the
// memory in use is; below, all of it counts.
const statFrom = 40

// Read implements Options.Read.
func (m *Memory) Read() (Usage, error) {
	u := Usage{Limit: m.limit, HeapMax: m.heapMax}
	if m.usage == nil {
		u.Heap, u.Stacks = m.heap()
		u.Used = u.Heap
		return u, nil
	}
	n, err := m.read(m.usage)
	if err != nil {
		return u, err
	}
	if u.Used, err = strconv.ParseInt(string(bytes.TrimSpace(m.buf[:n])), 10, 64); err != nil {
		return u, err
	}
	if u.Used < share(m.limit, statFrom) {
		u.Heap = u.Used
		return u, nil
	}
	// What the kernel has cached of files it takes back when it needs to.
	if n, err = m.read(m.stat); err != nil {
		return u, err
	}
	u.Used = max(u.Used-cached(m.buf[:n], m.total), 0)
	u.Heap, u.Stacks = m.heap()
	return u, nil
}

// read reads a file of the control group into buf. It takes some microseconds and
// must not take more: an ordinary system call may lose the processor, and with
// thousands of goroutines in line for it the reading would come when it is too
// late. So the runtime is not told of this one.
func (m *Memory) read(f *os.File) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, f.Fd(), uintptr(unsafe.Pointer(&m.buf)), uintptr(len(m.buf)), 0, 0, 0)
	if errno != 0 {
		return 0, &os.PathError{Op: "read", Path: f.Name(), Err: errno}
	}
	return int(n), nil
}

// heap is what the runtime holds, and how much of it are stacks.
func (m *Memory) heap() (all, stacks int64) {
	metrics.Read(m.samples[:])
	return int64(m.samples[0].Value.Uint64() - m.samples[1].Value.Uint64()), int64(m.samples[2].Value.Uint64())
}

// cached sums up the file pages of a memory.stat.
func cached(stat []byte, total bool) int64 {
	names := [2]string{"inactive_file ", "active_file "}
	if total {
		names = [2]string{"total_inactive_file ", "total_active_file "}
	}
	sum := int64(0)
	for line := range bytes.Lines(stat) {
		for _, name := range names {
			if v, ok := bytes.CutPrefix(line, []byte(name)); ok {
				n, _ := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
				sum += n
			}
		}
	}
	return sum
}
