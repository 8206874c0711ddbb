package netlab_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/redirect/cni"
	"github.com/linkerd-go/linkerd-go/redirect/initcmd"
	"github.com/linkerd-go/linkerd-go/redirect/validatorcmd"
)

// commands are what this test binary becomes when it is started under one of
// these names, so that tests can run the commands as real processes.
var commands = map[string]func(ctx context.Context, args, env []string, stdout, stderr io.Writer) int{
	initcmd.Name:      initcmd.Run,
	validatorcmd.Name: validatorcmd.Run,
	"container":       container,
	"limited":         limited,
	debugName:         debugRun,
	cni.Type: func(ctx context.Context, _, _ []string, stdout, stderr io.Writer) int {
		return cni.Run(ctx, stdout, stderr)
	},
}

func TestMain(m *testing.M) {
	if run, ok := commands[filepath.Base(os.Args[0])]; ok {
		os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	leaks.VerifyTestMain(m)
}

// container imitates how a container runtime starts a program that is not root
// and may not gain privileges, in a container that adds the capabilities given
// in the environment. The runtime's process itself has the capabilities until
// the very end; the program gets of them what its file is marked with.
func container(_ context.Context, args, env []string, _, stderr io.Writer) int {
	// All that follows concerns one thread, and so does the final exec.
	runtime.LockOSThread()
	fail := func(what string, err error) int {
		fmt.Fprintf(stderr, "container: %s: %v\n", what, err)
		return 125
	}
	bits := uint64(0)
	if os.Getenv("CONTAINER_CAPS") == "net_admin" {
		bits = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	}
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if bits&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return fail("drop from the bounding set", err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fail("keep capabilities", err)
	}
	const id = 65534
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, id, id, id); errno != 0 {
		return fail("set group", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 {
		return fail("set user", errno)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(bits), Permitted: uint32(bits)},
		{Effective: uint32(bits >> 32), Permitted: uint32(bits >> 32)},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fail("set capabilities", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fail("forbid new privileges", err)
	}
	return fail("exec "+strings.Join(args, " "), syscall.Exec(args[0], args, env))
}
