package meshtls_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

func TestFollowAnchors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := testca.New(t), testca.New(t)
		store := old.EmptyStore(t, web)
		key := testca.NewKey(t)
		// trusts reports whether certificates of an authority are accepted.
		trusts := func(ca *testca.CA) bool {
			return store.SetCertificate(ca.Issue(t, key.Public(), web), key) == nil
		}
		path := filepath.Join(t.TempDir(), "ca-bundle.crt")
		write := func(b []byte) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(11 * time.Second)
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); store.FollowAnchors(ctx, path, 10*time.Second) }()
		time.Sleep(time.Minute)
		if !trusts(old) || trusts(next) {
			t.Error("missing file changed something")
		}
		write(append(append([]byte(nil), old.PEM...), next.PEM...))
		if !trusts(old) || !trusts(next) {
			t.Error("bundle of both is not used")
		}
		write([]byte("half a fi"))
		if !trusts(old) || !trusts(next) {
			t.Error("broken file changed something")
		}
		write(next.PEM)
		if trusts(old) || !trusts(next) {
			t.Error("old anchor is still trusted")
		}
		cancel()
		<-done
	})
}
