// Command certmanager makes what a test of the mesh with cert-manager and
// trust-manager needs: their programs as images, and their charts, all from
// their Go modules. `make certmanager` runs it and then the test; see README.md.
//
//	go run . -out DIR
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	out := flag.String("out", "../../out/certmanager", "where images and charts go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "certmanager:", err)
		os.Exit(1)
	}
}

// charts are where the modules have their charts; the last element is the name.
var charts = []struct{ module, path string }{
	{"github.com/cert-manager/cert-manager", "deploy/charts/cert-manager"},
	{"github.com/cert-manager/trust-manager", "deploy/charts/trust-manager"},
}

func run(ctx context.Context, out string) error {
	// What an earlier run left could belong to another release.
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	for _, c := range charts {
		dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", c.module).Output()
		if err != nil {
			return fmt.Errorf("finding module %s: %w", c.module, err)
		}
		from := filepath.Join(strings.TrimSpace(string(dir)), c.path)
		if err := os.CopyFS(filepath.Join(out, "charts", filepath.Base(c.path)), os.DirFS(from)); err != nil {
			return fmt.Errorf("copying the chart of %s: %w", c.module, err)
		}
	}
	for _, program := range []string{"controller", "webhook", "cainjector", "trustmanager"} {
		if err := build(ctx, program, out); err != nil {
			return fmt.Errorf("image of %s: %w", program, err)
		}
	}
	return nil
}
