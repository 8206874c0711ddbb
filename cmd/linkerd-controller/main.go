// Linkerd-controller is the control plane: each of its controllers is a subcommand.
//
//	linkerd-controller identity -identity-trust-domain=cluster.local ...
//
// Called under the name linkerd-policy-controller it is the policy controller, because that is the command in the charts'
// policy container.
//
// To add a controller: write a file with an options struct, a function that returns its flags, and a run function (see
// identity.go), and add a line to commands below. What all of them share (flags, signals, admin server) is in process.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// command is one controller.
type command struct {
	// name is the subcommand.
	name string
	// summary is one line for the usage text.
	summary string
	// run parses the arguments and runs until ctx is done.
	run func(ctx context.Context, c call) error
}

// commands are all controllers, in the order of the usage text.
var commands = []command{
	{"identity", "issues certificates to workloads", runIdentity},
	{"destination", "tells proxies where names lead", runDestination},
	{"policy", "tells proxies what to let in and where to send", runPolicy},
	{"proxy-injector", "gives pods their proxy", runProxyInjector},
	{"sp-validator", "admits ServiceProfiles that make sense", runSPValidator},
	{names.SMIAdaptor, "writes traffic splits into ServiceProfiles", runSMIAdaptor},
	{"extension-init", "labels the namespace of an extension, once", runExtensionInit},
	{"heartbeat", "tells the makers of the mesh that it is alive, once", runHeartbeat},
}

// aliases maps the names that the binary may be called under to subcommands.
var aliases = map[string]string{"linkerd-policy-controller": "policy"}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// errUsage is the error of a run function whose arguments were wrong and already complained about.
var errUsage = errors.New("usage")

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := dispatch(ctx, os.Args, os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

// dispatch runs the command that args (with the program's name first) ask for and returns the exit code.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	program := filepath.Base(args[0])
	name, rest := aliases[program], args[1:]
	if name == "" {
		if len(rest) == 0 {
			usage(stderr, program)
			return exitUsage
		}
		name, rest = rest[0], rest[1:]
	}
	switch name {
	case "help", "-h", "-help", "--help":
		usage(stdout, program)
		return exitOK
	}
	for _, c := range commands {
		if c.name != name {
			continue
		}
		err := c.run(ctx, call{rest, stdout, stderr})
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return exitOK
		case errors.Is(err, errUsage):
			return exitUsage
		}
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitFailed
	}
	fmt.Fprintf(stderr, "unknown command %q\n", name)
	usage(stderr, program)
	return exitUsage
}

func usage(w io.Writer, program string) {
	var list strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&list, "  %-16s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(w, "usage: %s COMMAND [FLAGS]\n\ncommands:\n%s\n%[1]s COMMAND -help shows the flags of a command\n", program, list.String())
}
