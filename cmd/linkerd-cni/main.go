// Linkerd-cni is what redirects pods' traffic on nodes that use the CNI plugin instead of init containers.
//
// It is three programs, and tells by the name it is called under which one to be:
//
//	linkerd-cni                    the plugin, called by the container runtime for each pod
//	linkerd2-cni-install           puts the plugin onto the node and keeps it there
//	linkerd-cni-repair-controller  deletes pods that were made before the plugin was there
//
// The latter two are also its subcommands "install" and "repair".
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/linkerd-go/linkerd-go/control/cnirepair"
	"github.com/linkerd-go/linkerd-go/redirect/cni"
	"github.com/linkerd-go/linkerd-go/redirect/cniinstall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := dispatch(ctx, os.Args, os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// dispatch runs the program that args (with the program's name first) ask for and returns its exit code.
func dispatch(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	name, rest := filepath.Base(args[0]), args[1:]
	if len(rest) > 0 {
		switch rest[0] {
		case "install":
			name, rest = cniinstall.Name, rest[1:]
		case "repair":
			name, rest = cnirepair.Name, rest[1:]
		}
	}
	switch name {
	case cniinstall.Name:
		return cniinstall.Run(ctx, rest, env, stdout, stderr)
	case cnirepair.Name:
		return cnirepair.Run(ctx, rest, env, stdout, stderr)
	}
	// The container runtime calls the plugin by the type in its configuration, without arguments.
	return cni.Run(ctx, stdout, stderr)
}
