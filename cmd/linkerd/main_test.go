package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) {
	testscript.Main(leaks.Verified(m), map[string]func(){"linkerd": main})
}

// TestScripts runs testdata/script/*.txtar: what a user types, and what comes
// back. The scripts need no cluster.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("KUBECONFIG", env.WorkDir+"/no-such-kubeconfig")
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}
