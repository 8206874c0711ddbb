package identityboot_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/identityboot"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

// TestBundleOutlivesARestart keeps a bundle over what happens when a container
// starts again in its pod: key and request are made anew, the bundle stays.
func TestBundleOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	if got := identityboot.KeptBundle(dir); got != nil {
		t.Errorf("before the first: %q", got)
	}
	ca := testca.New(t)
	for _, bundle := range []string{"first", "second"} {
		if err := identityboot.KeepBundle(dir, []byte(bundle)); err != nil {
			t.Fatal(err)
		}
		if err := identityboot.Write(dir, ca.PEM, "web.ns.serviceaccount.identity.linkerd.cluster.local"); err != nil {
			t.Fatal(err)
		}
		if got := identityboot.KeptBundle(dir); string(got) != bundle {
			t.Errorf("got %q, want %q", got, bundle)
		}
	}
	info, err := os.Stat(filepath.Join(dir, identityboot.BundleFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := identityboot.KeepBundle(filepath.Join(dir, "missing"), nil); err == nil {
		t.Error("a bundle was kept in a directory that is not there")
	}
}
