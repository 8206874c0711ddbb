// Package await is the command linkerd-await: it holds back a program until the
// pod's proxy is ready, and can stop the proxy when the program is done.
//
// It runs in two places: as the proxy container's postStart hook, where it only
// waits, and in front of an application (linkerd-await --shutdown -- app), so
// that a Job's pod can finish. Options, messages and exit codes are those of the
// proxy chapter, section 27, with the gaps of section 29 closed: signals other
// than SIGTERM are forwarded too, a program's death by a signal is reported as
// shells do, and --shutdown works when only the waiting is disabled.
//
// [Run] is meant to be called once per process: without --shutdown it ends by
// becoming the program.
package await

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/linkerd-go/linkerd-go/internal/duration"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

// Name is what the command is called.
const Name = "linkerd-await"

// Exit codes of the command itself; otherwise it has the program's.
const (
	exitUsage       = 2
	exitUnavailable = 69 // the proxy did not get ready in time
	exitOSError     = 71 // the program could not be started
	exitInterrupted = 128 + int(syscall.SIGTERM)
)

// Environment variables (proxy chapter, section 27).
const (
	envVerbose       = "LINKERD_AWAIT_VERBOSE"
	envAwaitDisabled = "LINKERD_AWAIT_DISABLED"
	envDisabled      = "LINKERD_DISABLED"
)

// options is what the command line says.
type options struct {
	port         uint16
	backoff      time.Duration
	shutdown     bool
	verbose      bool
	timeout      time.Duration // 0: none
	timeoutFatal bool
	command      []string
}

// world is what the command does to its surroundings.
type world struct {
	// ready asks the proxy once.
	ready func(ctx context.Context) bool
	// shutdown tells the proxy to stop.
	shutdown func(ctx context.Context)
	// become replaces the process by a program; it returns only on failure.
	become func(command, env []string) error
	// child runs a program to its end and returns its exit code, or an error
	// if it could not be started.
	child func(command, env []string) (int, error)
}

// Run executes the command with the arguments after its name and returns its
// exit code.
func Run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	o, code, err := parse(args, env, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "error: %s\n", err)
	}
	if o == nil {
		return code
	}
	admin := newAdmin(o.port)
	return o.run(ctx, env, stderr, world{
		ready:    admin.ready,
		shutdown: admin.shutdown,
		become:   become,
		child:    func(command, env []string) (int, error) { return child(command, env, stdout, stderr) },
	})
}

// parse returns nil options when there is nothing to do but to exit.
func parse(args, env []string, stdout io.Writer) (*options, int, error) {
	o := options{backoff: time.Second}
	var showVersion bool
	set := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	set.SortFlags = false
	// What follows the program's name is its own.
	set.SetInterspersed(false)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.Uint16VarP(&o.port, "port", "p", 4191, "Port of the proxy's admin server")
	set.VarP(duration.Value{D: &o.backoff}, "backoff", "b", "Pause after a failed check")
	set.BoolVarP(&o.shutdown, "shutdown", "S", false, "Run CMD as a child and shut the proxy down when it ends")
	set.BoolVarP(&o.verbose, "verbose", "v", truthy(lookup(env, envVerbose)), "Say why the check is skipped ($"+envVerbose+")")
	set.VarP(duration.Value{D: &o.timeout}, "timeout", "t", "Give up waiting after this long; 0 is never")
	set.BoolVar(&o.timeoutFatal, "timeout-fatal", true, "Whether CMD is not run after a timeout")
	set.BoolVarP(&showVersion, "version", "V", false, "Print the version")
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "%s waits until the Linkerd proxy is ready.\n\nUsage:\n  %s [OPTIONS] [CMD] [ARGS]...\n\nOptions:\n%s", Name, Name, set.FlagUsages())
		return nil, 0, nil
	case err != nil:
		return nil, exitUsage, err
	case showVersion:
		fmt.Fprintln(stdout, Name, version.Version)
		return nil, 0, nil
	}
	o.command = set.Args()
	if len(o.command) == 0 {
		for _, name := range []string{"shutdown", "timeout-fatal"} {
			if set.Changed(name) {
				return nil, exitUsage, fmt.Errorf("--%s requires a CMD", name)
			}
		}
	}
	return &o, 0, nil
}

// run does what the options say.
func (o *options) run(ctx context.Context, env []string, stderr io.Writer, w world) int {
	reason, noProxy := disabled(env)
	if reason != "" {
		if o.verbose {
			fmt.Fprintf(stderr, "Linkerd readiness check skipped: %s\n", reason)
		}
	} else if code := o.wait(ctx, stderr, w.ready); code != 0 {
		return code
	}
	if len(o.command) == 0 {
		return 0
	}
	failed := func(err error) int {
		fmt.Fprintf(stderr, "%s: cannot run %s: %s\n", Name, o.command[0], err)
		return exitOSError
	}
	// A pod without a proxy has nothing to shut down.
	if !o.shutdown || noProxy {
		return failed(w.become(o.command, env))
	}
	code, err := w.child(o.command, env)
	// Also when the program could not be started: the pod is done.
	w.shutdown(ctx)
	if err != nil {
		return failed(err)
	}
	return code
}

// disabled returns the reason for which there is no waiting, and whether that
// is because there is no proxy at all.
func disabled(env []string) (reason string, noProxy bool) {
	if v := lookup(env, envAwaitDisabled); v != "" {
		return v, false
	}
	v := lookup(env, envDisabled)
	return v, v != ""
}

// attemptTimeout bounds one check. A proxy that starts can be slow to answer.
const attemptTimeout = 5 * time.Second

// wait returns 0 when the program may run, else the exit code.
func (o *options) wait(ctx context.Context, stderr io.Writer, ready func(context.Context) bool) int {
	waitCtx := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		waitCtx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	for {
		attempt, cancel := context.WithTimeout(waitCtx, attemptTimeout)
		ok := ready(attempt)
		cancel()
		if ok {
			return 0
		}
		pause := time.NewTimer(o.backoff)
		select {
		case <-pause.C:
			if waitCtx.Err() == nil {
				continue
			}
		case <-waitCtx.Done():
			pause.Stop()
		}
		if ctx.Err() != nil {
			return exitInterrupted
		}
		fmt.Fprintf(stderr, "linkerd-proxy failed to become ready within %s timeout\n", duration.Value{D: &o.timeout})
		if o.timeoutFatal {
			return exitUnavailable
		}
		return 0
	}
}

// become replaces the process.
func become(command, env []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	return os.NewSyscallError("exec", syscall.Exec(path, command, env))
}

// lookup returns the value of an environment variable; the last one counts.
func lookup(env []string, name string) string {
	for _, v := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// truthy reads a switch in the environment.
func truthy(value string) bool {
	switch strings.ToLower(value) {
	case "", "0", "f", "false", "n", "no", "off":
		return false
	}
	return true
}
