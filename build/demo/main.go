// Command demo takes a bare machine to a meshed application: it builds
// everything, starts the embedded cluster, installs the mesh with the CLI as a
// user would, deploys the sample shop and shows its traffic. It is what
// `make demo` runs.
//
//	go run ./build/demo           do it all; again, it goes on where it was
//	go run ./build/demo -down     remove every trace from the machine
//
// Every command that a user could type is printed before it runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	var d demo
	down := flag.Bool("down", false, "remove the demo: processes, mounts, links, files")
	flag.StringVar(&d.cluster, "cluster", "demo", "name of the embedded cluster")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := d.up
	if *down {
		run = d.down
	}
	if err := run(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted; run it again to go on, or `make demo-down` to remove it")
		}
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}
