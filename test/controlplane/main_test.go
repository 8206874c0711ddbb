package controlplane

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Paths of the programs, set by TestMain.
var programs struct{ devcluster, controller string }

// update writes what was seen into the files of expectations.
var update = flag.Bool("update", false, "rewrite the expectations in testdata")

func TestMain(m *testing.M) {
	if os.Getenv(clientVariable) != "" {
		os.Exit(runClient())
	}
	flag.Parse()
	programs.devcluster = os.Getenv("LINKERD_DEVCLUSTER")
	if programs.devcluster == "" {
		fmt.Println("tests of the control plane need an API server: `make controlplane` builds one")
		os.Exit(m.Run())
	}
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the controller:", err)
		code = 1
	}
	os.Exit(code)
}

// build makes the controller's binary, with the flags that the images are built with, so that nothing is compiled twice.
func build(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "controlplane-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	programs.controller = filepath.Join(dir, "linkerd-controller")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", programs.controller, "../../cmd/linkerd-controller")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
