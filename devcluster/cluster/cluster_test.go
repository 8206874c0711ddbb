package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
	"github.com/linkerd-go/linkerd-go/devcluster/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testTarget(t *testing.T, name string) Target {
	t.Helper()
	// The directory of t is longer than a state directory may be; claim does not mind.
	dir := t.TempDir()
	return Target{Name: name, StateBase: filepath.Join(dir, "state"), RunBase: filepath.Join(dir, "run")}
}

func TestClaimKeepsTheKindOfCluster(t *testing.T) {
	whole := testTarget(t, "east")
	only := whole
	only.Name, only.APIOnly = "west", true
	if c, _, err := whole.claim(); err != nil || c.APIOnly {
		t.Fatalf("claim = %v, %v", c, err)
	}
	if c, _, err := only.claim(); err != nil || !c.APIOnly {
		t.Fatalf("claim = %v, %v", c, err)
	}
	if c, isNew, err := only.claim(); err != nil || isNew || !c.APIOnly {
		t.Errorf("claim again = %v, %v, %v", c, isNew, err)
	}
	whole.APIOnly, only.APIOnly = true, false
	for _, target := range []Target{whole, only} {
		if _, _, err := target.claim(); err == nil || !strings.Contains(err.Error(), "run down first") {
			t.Errorf("claim of %s as the other kind = %v", target.Name, err)
		}
	}
}

func TestClaimGivesEveryClusterItsOwnAddressesAndKeepsThem(t *testing.T) {
	east := testTarget(t, "east")
	west := east
	west.Name = "west"
	first, isNew, err := east.claim()
	if err != nil || !isNew {
		t.Fatalf("claim = %v, %v, %v", first, isNew, err)
	}
	second, _, err := west.claim()
	if err != nil || second.Index == first.Index {
		t.Fatalf("second claim = %v, %v; first was %v", second, err, first)
	}
	again, isNew, err := east.claim()
	if err != nil || isNew || again != first {
		t.Errorf("claim again = %v, %v, %v; want %v", again, isNew, err, first)
	}
	list, err := List(east.RunBase)
	if err != nil || !reflect.DeepEqual(list, []plan.Cluster{first, second}) {
		t.Errorf("list = %v, %v", list, err)
	}

	t.Run("other state directory", func(t *testing.T) {
		moved := east
		moved.StateBase = t.TempDir()
		if _, _, err := moved.claim(); err == nil || !strings.Contains(err.Error(), "run down first") {
			t.Errorf("claim = %v", err)
		}
	})
	t.Run("after a reboot", func(t *testing.T) {
		if err := os.RemoveAll(east.RunBase); err != nil {
			t.Fatal(err)
		}
		back, isNew, err := west.claim()
		if err != nil || isNew || back != second {
			t.Errorf("claim = %v, %v, %v; want %v", back, isNew, err, second)
		}
	})
	t.Run("addresses taken meanwhile", func(t *testing.T) {
		if err := os.RemoveAll(east.RunBase); err != nil {
			t.Fatal(err)
		}
		other := Target{Name: "other", StateBase: filepath.Join(t.TempDir(), "state"), RunBase: east.RunBase}
		if c, _, err := other.claim(); err != nil || c.Index != first.Index {
			t.Fatalf("claim = %v, %v", c, err)
		}
		if _, _, err := east.claim(); err == nil || !strings.Contains(err.Error(), "now belong to cluster other") {
			t.Errorf("claim = %v", err)
		}
	})
}

func TestFindWithoutCluster(t *testing.T) {
	if _, err := testTarget(t, "nobody").Find(); !errors.Is(err, ErrNotFound) {
		t.Errorf("Find = %v, want ErrNotFound", err)
	}
}

func TestLockKeepsOthersOutAndSurvivesRemoval(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	unlock, err := lock(dir, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	waits, got := make(chan struct{}), make(chan error)
	go func() {
		second, err := lock(dir, "x", func() { close(waits) })
		if err == nil {
			second()
		}
		got <- err
	}()
	<-waits
	select {
	case <-got:
		t.Fatal("two hold the lock")
	default:
	}
	// As Down does: the file goes while the lock is held.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestMountsBelow(t *testing.T) {
	data, err := os.ReadFile("testdata/mountinfo.txt")
	if err != nil {
		t.Fatal(err)
	}
	got := mountsBelow(string(data), "/var/lib/x/east", "/run/x/east")
	want := []string{
		"/var/lib/x/east/kubelet/pods/1/volumes/a b",
		"/run/x/east/containerd/rootfs",
		"/run/x/east/containerd/netns/cni-1",
		"/var/lib/x/east",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCachedFor(t *testing.T) {
	c := plan.Cluster{Name: "east", RunBase: "/run/x"}
	for data, want := range map[string]bool{
		`{"kind":"cniCacheV1","networkName":"ldc-east","netns":"/run/x/east/containerd/netns/cni-1"}`: true,
		`{"netns":"/run/x/east-2/containerd/netns/cni-1"}`:                                            false,
		`{"netns":"/var/run/netns/cni-1"}`:                                                            false,
		`not json`:                                                                                    false,
	} {
		if got := cachedFor(c, []byte(data)); got != want {
			t.Errorf("cachedFor(%s) = %v", data, got)
		}
	}
}

func TestLimitsAreRaisedOnceAndRestored(t *testing.T) {
	dir := t.TempDir()
	low, high := filepath.Join(dir, "low"), filepath.Join(dir, "high")
	for path, value := range map[string]string{low: "128\n", high: "9999\n"} {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		a, errA := os.ReadFile(low)
		b, errB := os.ReadFile(high)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(a)) + " " + strings.TrimSpace(string(b))
	}
	var m machine
	limits := map[string]int{low: 1024, high: 1024}
	for range 2 {
		if err := m.raiseLimits(limits); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != "1024 9999" {
			t.Errorf("raised to %s", got)
		}
	}
	if err := m.restoreLimits(); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "128 9999" {
		t.Errorf("restored to %s", got)
	}
}

func TestSameComponent(t *testing.T) {
	wanted := []string{"/new/bin/devcluster", "kubelet", "--config=x"}
	for _, test := range []struct {
		running []string
		want    bool
	}{
		{[]string{"/old/bin/devcluster", "kubelet", ""}, true},
		{[]string{"/old/bin/devcluster", "kube-proxy"}, false},
		{[]string{"/usr/bin/other", "kubelet"}, false},
		{[]string{""}, false},
	} {
		if got := sameComponent(test.running, wanted); got != test.want {
			t.Errorf("sameComponent(%q) = %v", test.running, got)
		}
	}
}

func TestEnvironmentHasNoProxies(t *testing.T) {
	t.Setenv("https_proxy", "http://proxy.example:3128")
	t.Setenv("HTTP_PROXY", "http://proxy.example:3128")
	t.Setenv("PATH", "/only/mine")
	env := environment()
	for _, entry := range env {
		if strings.Contains(entry, "proxy.example") {
			t.Errorf("environment has %s", entry)
		}
	}
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") && strings.Contains(e, "/usr/sbin") }) {
		t.Error("administrators' programs are not in PATH")
	}
}

func TestReadingCtr(t *testing.T) {
	if got := importedNames("unpacking a.example/x:1 (sha256:aa)...done\nunpacking b:2 (sha256:bb)...done\nelapsed\n"); !reflect.DeepEqual(got, []string{"a.example/x:1", "b:2"}) {
		t.Errorf("imported %q", got)
	}
	data, err := os.ReadFile("testdata/images.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := [][3]string{{"devcluster.local/pause:1", "sha256:8847", "1.4 MiB"}, {"test.local/probe:1", "sha256:e635", "8.6 MiB"}}
	if got := imageRows(string(data)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A component that ends has to be reported with what it said last, and what it said before this start does
// not count.
func TestDeadComponentIsReportedWithItsLastWords(t *testing.T) {
	target := testTarget(t, "east")
	c, _, err := target.claim()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{c.State("logs"), c.Run("pids")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(c.Log(config.Etcd), "from before\nlisten: address in use\n")
	write(recordPath(c, config.Etcd), `{"pid":999999999,"logOffset":12}`)
	s := &starter{c: c, progress: NewProgress(t.Output())}
	err = s.await(t.Context(), config.Etcd, func() error { return errors.New("connection refused") })
	if failed, ok := errors.AsType[*ComponentError](err); !ok || failed.Name != config.Etcd || !errors.Is(err, errEnded) {
		t.Fatalf("await = %v", err)
	}
	if text := err.Error(); !strings.Contains(text, "listen: address in use") || strings.Contains(text, "from before") {
		t.Errorf("message: %s", text)
	}
}

func TestSlowComponentIsReportedWithWhatItLacks(t *testing.T) {
	target := testTarget(t, "east")
	c, _, err := target.claim()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.Run("pids"), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := process.Self()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Save(recordPath(c, config.Etcd)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	s := &starter{c: c, progress: NewProgress(t.Output())}
	err = s.await(ctx, config.Etcd, func() error { return errors.New("connection refused") })
	if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "not well in time") {
		t.Errorf("await = %v", err)
	}
}
