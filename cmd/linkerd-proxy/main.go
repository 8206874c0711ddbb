// Linkerd-proxy is the sidecar proxy and its companions in one binary. Which of
// them it is follows from the name it is called under, as the images have it
// (/usr/lib/linkerd/linkerd2-proxy and so on), or from the first argument:
//
//	linkerd2-proxy                 the proxy; configured by the environment
//	linkerd2-proxy-identity        makes key and request, then becomes the proxy
//	linkerd2-proxy-init            redirects the pod's traffic
//	linkerd2-network-validator     proves that it is redirected
//	linkerd-await                  waits for the proxy, then becomes a command
//	sleep                          for preStop hooks
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/linkerd-go/linkerd-go/internal/await"
	"github.com/linkerd-go/linkerd-go/internal/sleepcmd"
	"github.com/linkerd-go/linkerd-go/internal/version"
	"github.com/linkerd-go/linkerd-go/redirect/initcmd"
	"github.com/linkerd-go/linkerd-go/redirect/validatorcmd"
)

// command is one of the programs. args do not include its name; the result is
// the exit code.
type command struct {
	name, summary string
	// signals says that SIGINT and SIGTERM end ctx; the others get them as
	// they come.
	signals bool
	run     func(ctx context.Context, args, env []string, stdout, stderr io.Writer) int
}

// commands are all programs, in the order of the usage text.
var commands = []command{
	{"linkerd2-proxy", "the sidecar proxy", true, runProxy},
	{"linkerd2-proxy-identity", "makes key and certificate request, then becomes the proxy", false, runIdentity},
	{"linkerd2-proxy-init", "redirects the pod's traffic to the proxy", true, initcmd.Run},
	{"linkerd2-network-validator", "proves that traffic is redirected", true, validatorcmd.Run},
	{"linkerd-await", "waits until the proxy is ready, then becomes a command", false, await.Run},
	{"sleep", "sleeps", true, sleepcmd.Run},
}

// Exit codes of this file; the programs have their own.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(dispatch(os.Args, os.Environ(), os.Stdout, os.Stderr))
}

// dispatch finds the program by the name of the binary, then by the first
// argument, and runs it.
func dispatch(args, env []string, stdout, stderr io.Writer) int {
	name := filepath.Base(args[0])
	for _, c := range commands {
		if c.name == name {
			return c.start(args[1:], env, stdout, stderr)
		}
	}
	if len(args) < 2 {
		usage(stderr)
		return exitUsage
	}
	switch args[1] {
	case "help", "-h", "--help":
		usage(stdout)
		return exitOK
	case "version", "--version":
		fmt.Fprintln(stdout, version.Version)
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[1] {
			return c.start(args[2:], env, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "linkerd-proxy: unknown command %q\n", args[1])
	usage(stderr)
	return exitUsage
}

func (c command) start(args, env []string, stdout, stderr io.Writer) int {
	ctx := context.Background()
	if c.signals {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
	}
	return c.run(ctx, args, env, stdout, stderr)
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "Usage: linkerd-proxy COMMAND [ARGS]\n\nCommands:")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-28s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(w, "  %-28s %s\n", "version", "prints the version")
}
