// Linkerd-debug is the debug container of a pod (container linkerd-debug, annotation config.linkerd.io/enable-debug-sidecar).
//
// Its main process shows the pod's packets; everything else is a subcommand, for `kubectl exec`: the image holds nothing but
// this program. Run it with "help" for a list.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/linkerd-go/linkerd-go/debug/ask"
	"github.com/linkerd-go/linkerd-go/debug/capturecmd"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

const usage = `Look at the network of a pod from inside.

Usage:
  kubectl logs POD -c linkerd-debug
  kubectl exec POD -c linkerd-debug -- linkerd-debug COMMAND [flags] [arguments]

Commands:
  capture   Show packets that a filter chooses, or write them for Wireshark
  get       Send an HTTP request, and show the response with its headers and times
  proxy     Show a page of the proxy's admin server: metrics, ready, env.json, config.json
  resolve   Ask DNS for a name as the pod would
  sockets   List the sockets of the pod, and whose they are
  tls       Make a TLS handshake, and show the server's certificates
  watch     Show all packets at a bounded rate; the container's main process, and what is done without a command
  version   Print the version

"linkerd-debug COMMAND --help" has the details.
`

// commands are the subcommands by their names.
var commands = map[string]func(ctx context.Context, args []string, stdout, stderr io.Writer) int{
	"capture": capturecmd.Run,
	"get":     ask.Get,
	"proxy":   ask.Proxy,
	"resolve": ask.Resolve,
	"sockets": ask.Sockets,
	"tls":     ask.TLS,
}

func main() {
	// A reader that goes away is told by the write that fails, which ends a capture in order.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := dispatch(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// dispatch runs the command that args (with the program's name first) ask for and returns its exit code.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if filepath.Base(args[0]) == "true" {
		// The container's probes run this (control-plane chapter, on the container linkerd-debug).
		return 0
	}
	name, rest := "watch", args[1:]
	if len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	switch name {
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return 0
	case "version", "--version":
		fmt.Fprintln(stdout, version.Version)
		return 0
	case "watch":
		if len(rest) > 0 {
			fmt.Fprintf(stderr, "linkerd-debug: watch takes no arguments, not %q; \"capture\" does\n", rest[0])
			return 2
		}
		return capturecmd.Watch(ctx, stdout, stderr)
	}
	run, ok := commands[name]
	if !ok {
		fmt.Fprintf(stderr, "linkerd-debug: there is no command %q; \"linkerd-debug help\" lists them\n", name)
		return 2
	}
	return run(ctx, rest, stdout, stderr)
}
