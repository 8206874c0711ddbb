package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) {
	testscript.Main(leaks.Verified(m), map[string]func(){"linkerd-debug": main})
}

// TestScripts runs testdata/*.txt.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}

// TestProbes: kubelets run "true", of which the image has a link to this program.
func TestProbes(t *testing.T) {
	var out bytes.Buffer
	if code := dispatch(t.Context(), []string{"true"}, &out, os.Stderr); code != 0 || out.Len() > 0 {
		t.Errorf("exit code %d, output %q", code, out.String())
	}
}
