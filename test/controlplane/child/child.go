// Package child runs programs for a test: each writes to a log file, takes
// signals, and is gone when the test is over, however that ends.
//
//	p := child.Start(t, child.Options{Name: "etcd", Argv: []string{...}})
//	p.Signal(syscall.SIGSTOP)
//	p.Kill()                          // at once, and waits
//	code := p.Stop(10 * time.Second)  // politely
//
// A Process may be used from any goroutine.
package child

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options say what to run.
type Options struct {
	// Name is for messages and the log file.
	Name string
	// Argv is the program and its arguments.
	Argv []string
	// Env is added to the test's own environment.
	Env []string
	// Quiet leaves the log out of a failed test's output.
	Quiet bool
}

// Process is one running program.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// shownLines is how much of a log a failed test shows.
const shownLines = 40

// Start starts a program. The test ends it, if nobody did before.
func Start(tb testing.TB, o Options) *Process {
	tb.Helper()
	log, err := os.Create(filepath.Join(tb.TempDir(), o.Name+".log"))
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	p := &Process{name: o.Name, log: log.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(o.Argv[0], o.Argv[1:]...)
	p.cmd.Env = append(os.Environ(), o.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A test that is killed takes its programs along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("starting %s: %v", o.Name, err)
	}
	go func() {
		_ = p.cmd.Wait() // its state is asked for
		close(p.done)
	}()
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() && !o.Quiet {
			lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
			tb.Logf("last lines of %s:\n%s", o.Name, strings.Join(lines[max(0, len(lines)-shownLines):], "\n"))
		}
	})
	return p
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal. One that comes too late is no error.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Stop asks the process to end, waits, and returns its exit code; -1 if it had to be killed.
func (p *Process) Stop(limit time.Duration) int {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
		p.Kill()
	}
	return p.cmd.ProcessState.ExitCode()
}

// Log returns what the process has written so far.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
