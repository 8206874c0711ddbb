// Command cmd runs an actor, a pod of the end-to-end tests of policies: see
// package actor. Its only argument is the actor's name.
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
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: actor NAME")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a, err := actor.Listen(os.Args[1], actor.Everywhere)
	if err == nil {
		err = a.Serve(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "actor:", err)
		os.Exit(1)
	}
}
