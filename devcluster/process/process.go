// Package process starts a cluster's components so that they outlive the program that started them, and
// recognises them later: by a record of process number and start time, so that a number that the kernel
// has given to someone else is never taken for a component.
package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/linkerd-go/linkerd-go/devcluster/cgroup"
	"github.com/linkerd-go/linkerd-go/devcluster/netns"
)

// maxLog is the size above which a log is put aside when its component is started again.
const maxLog = 16 << 20

// Spec is a component to start.
type Spec struct {
	// Name is used for messages.
	Name string
	// Argv is the program's path and its arguments.
	Argv []string
	// Namespace is the file of the network namespace to run in. Only this namespace differs from the
	// caller's: containerd has to see the mounts that the kubelet makes.
	Namespace string
	// Cgroup is the control group to run in, below each tree of Trees.
	Cgroup string
	Trees  cgroup.Trees
	// Log takes the output, Record remembers the process.
	Log, Record string
	// Env is the environment.
	Env []string
}

// Record is what is remembered of a started component.
type Record struct {
	PID int `json:"pid"`
	// StartTicks is the kernel's start time of the process, in clock ticks since boot.
	StartTicks uint64 `json:"startTicks"`
	// Started is the wall clock's.
	Started time.Time `json:"started"`
	// LogOffset is where this process's output begins in its log.
	LogOffset int64 `json:"logOffset"`
}

// Start starts spec and records it. The process leads its own session, so that it gets no signals from the
// caller's terminal.
func Start(spec Spec) (Record, error) {
	log, offset, err := openLog(spec.Log)
	if err != nil {
		return Record{}, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer log.Close()
	command := exec.Command(spec.Argv[0], spec.Argv[1:]...)
	command.Stdout, command.Stderr = log, log
	command.Env = spec.Env
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	unified, err := spec.Trees.Unified(spec.Cgroup)
	if err != nil {
		return Record{}, fmt.Errorf("start %s: open cgroup: %w", spec.Name, err)
	}
	if unified != nil {
		defer unified.Close()
		command.SysProcAttr.UseCgroupFD = true
		command.SysProcAttr.CgroupFD = int(unified.Fd())
	}

	result := make(chan error, 1)
	go func() {
		// The child inherits the thread's namespace and groups. Never unlocked: the thread ends with the
		// goroutine.
		runtime.LockOSThread()
		if err := spec.Trees.EnterThread(spec.Cgroup); err != nil {
			result <- err
			return
		}
		if err := netns.Enter(spec.Namespace); err != nil {
			result <- err
			return
		}
		result <- command.Start()
	}()
	if err := <-result; err != nil {
		return Record{}, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	// Reap it if it dies while we are still here; otherwise it would look alive to nobody but us.
	go func() { _ = command.Wait() }()

	record := Record{PID: command.Process.Pid, Started: time.Now(), LogOffset: offset}
	if stat, err := readStat(record.PID); err == nil {
		record.StartTicks = stat.startTicks
	}
	if err := record.Save(spec.Record); err != nil {
		return record, fmt.Errorf("record %s: %w", spec.Name, err)
	}
	return record, nil
}

// Self is the record of the calling process.
func Self() (Record, error) {
	self, err := readStat(os.Getpid())
	return Record{PID: os.Getpid(), StartTicks: self.startTicks, Started: time.Now()}, err
}

// Save writes the record to path.
func (r Record) Save(path string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return WriteFile(path, data, 0o644)
}

// WriteFile replaces path in one step, so that a crash leaves the old or the new content.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails after the rename, as it should
	_, err = file.Write(data)
	if err := errors.Join(err, file.Chmod(mode), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// openLog opens a log for appending and says how long it is.
func openLog(path string) (*os.File, int64, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, 0, err
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// Load reads a record. A missing one is no error: ok is false.
func Load(path string) (record Record, ok bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("read process record: %w", err)
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return Record{}, false, fmt.Errorf("read process record %s: %w", path, err)
	}
	return record, true, nil
}

// Alive reports whether the recorded process still runs.
func (r Record) Alive() bool {
	stat, err := readStat(r.PID)
	return err == nil && stat.startTicks == r.StartTicks && stat.state != 'Z' && stat.state != 'X'
}

// Resident is the process's resident memory in bytes, 0 if unknown.
func (r Record) Resident() int64 {
	stat, err := readStat(r.PID)
	if err != nil {
		return 0
	}
	return stat.pages * int64(os.Getpagesize())
}

// stat is the part of /proc/PID/stat that matters here.
type stat struct {
	state      byte
	startTicks uint64
	pages      int64
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(data))
}

// parseStat reads proc(5)'s stat line. The program's name, second, may contain anything, so fields are
// counted from its closing parenthesis.
func parseStat(line string) (stat, error) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("process status %q: no name", line)
	}
	fields := strings.Fields(line[end+1:]) // begins with field 3
	if len(fields) < 22 {
		return stat{}, fmt.Errorf("process status %q: too short", line)
	}
	start, err := strconv.ParseUint(fields[22-3], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("process status: start time: %w", err)
	}
	pages, err := strconv.ParseInt(fields[24-3], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("process status: memory: %w", err)
	}
	return stat{state: fields[0][0], startTicks: start, pages: pages}, nil
}

// Tail returns the last lines of the log at path, not reading before offset.
func Tail(path string, offset int64, lines int) ([]string, error) {
	const window = 64 << 10
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	begin, cut := min(offset, info.Size()), false
	if info.Size()-begin > window {
		begin, cut = info.Size()-window, true
	}
	data, err := io.ReadAll(io.NewSectionReader(file, begin, window))
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	data = bytes.TrimRight(data, "\n")
	if len(data) == 0 {
		return nil, nil
	}
	all := strings.Split(string(data), "\n")
	if cut {
		all = all[1:] // the first one is incomplete
	}
	return all[max(0, len(all)-lines):], nil
}

// Gone reports whether no process of that number runs; a dead one that nobody has buried counts as gone.
func Gone(pid int) bool {
	stat, err := readStat(pid)
	return err != nil || stat.state == 'Z' || stat.state == 'X'
}
