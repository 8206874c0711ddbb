// Command devcluster runs real Kubernetes clusters on one Linux machine, for development and tests. The same
// binary is also every component of such a cluster, and kubectl.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/linkerd-go/linkerd-go/devcluster/command"
	"github.com/linkerd-go/linkerd-go/devcluster/component"
	"github.com/linkerd-go/linkerd-go/devcluster/config"
)

func main() {
	os.Exit(run(os.Args))
}

func run(args []string) int {
	// A link called kubectl makes the binary kubectl, with whatever kubeconfig its user has.
	if filepath.Base(args[0]) == config.Kubectl {
		return component.Run(config.Kubectl, args[1:])
	}
	if len(args) > 1 && args[1] != config.Kubectl && component.Is(args[1]) {
		return component.Run(args[1], args[2:])
	}
	outside := command.Outside{
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Kubectl: func(args []string) int { return component.Run(config.Kubectl, args) },
	}
	if version, stamped := component.Version(); !stamped {
		outside.Warning = "this binary was built without Kubernetes' version and calls itself " + version + "; see devcluster/README.md, Building"
	}
	root := command.New(outside)
	root.SetArgs(args[1:])
	err := root.ExecuteContext(context.Background())
	code, show := command.ExitCode(err)
	if show {
		fmt.Fprintf(os.Stderr, "devcluster: %v\n", err)
	}
	return code
}
