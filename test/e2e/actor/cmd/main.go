// Command cmd is the program in the pods of the end-to-end tests of policies:
//
//	actor NAME                  an actor, see package actor
//	actor agent SOCKET ID DIR   the SPIFFE agent of a machine outside of the cluster
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/linkerd-go/linkerd-go/test/e2e/actor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "actor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 4 && args[0] == "agent":
		return actor.ServeAgent(ctx, args[1], args[2], args[3])
	case len(args) == 1:
		a, err := actor.Listen(args[0], actor.Everywhere)
		if err != nil {
			return err
		}
		return a.Serve(ctx)
	}
	return fmt.Errorf("usage: actor NAME, or actor agent SOCKET ID DIR")
}
