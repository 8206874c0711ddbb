package controlplane

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/test/controlplane/kubeapi"
)

// watchdog asks controllers whether they are ready, again and again, and keeps what was not expected.
type watchdog struct {
	mu   sync.Mutex // guards said
	said []string
	stop chan struct{}
	done sync.WaitGroup
}

func watchReady(controllers ...*controller) *watchdog {
	d := &watchdog{stop: make(chan struct{})}
	for _, c := range controllers {
		d.done.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				if _, err := c.ask("/ready"); err != nil {
					d.mu.Lock()
					d.said = append(d.said, c.component+": "+err.Error())
					d.mu.Unlock()
				}
				select {
				case <-d.stop:
					return
				case <-tick.C:
				}
			}
		})
	}
	return d
}

// end stops asking and returns the answers that were not "ready".
func (d *watchdog) end() []string {
	close(d.stop)
	d.done.Wait()
	return d.said
}

// TestAPIServerFails: the API server crashes, comes back and forgets, the network to it is cut and goes dead; the streams to
// proxies stay open through all of it, never go back, and end up at the newest state.
func TestAPIServerFails(t *testing.T) {
	w := newWorld(t)
	link := kubeapi.NewLink(t, w.api.Address())
	// A connection that died without a word is found by pings; the defaults of 30 s and 15 s are only slower.
	env := []string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS=2", "HTTP2_PING_TIMEOUT_SECONDS=1"}
	w.apply(workload + "---" + generation(1))
	destination := w.start("destination", starting{link: link, env: env}).ready()
	policy := w.start("policy", starting{link: link, env: env}).ready()
	all := w.followAll(t.Context(), destination, policy)
	w.awaitAll(soon, all, 1)
	// What is known is served on, so that a controller that has lost the API server is ready: see docs/resilience.md.
	dog := watchReady(destination, policy)
	number := 1

	w.run("crash while everything changes", func(w *world) {
		crashed := make(chan struct{})
		var changing sync.WaitGroup
		changing.Go(func() {
			// One change after the other, each tried until the API server takes it: some just before the crash, some as
			// soon as it is back.
			for rest := 10; rest > 0; {
				for _, o := range w.decode(generation(number + 1)) {
					for w.tryApply(o) != nil {
						time.Sleep(50 * time.Millisecond)
					}
				}
				number++
				select {
				case <-crashed:
					rest--
				default:
				}
			}
		})
		w.awaitSome(all, 3)
		w.api.Kill()
		w.api.Revive()
		close(crashed)
		changing.Wait()
		w.awaitAll(soon, all, number)
	})

	w.run("changes and deletions that nobody saw", func(w *world) {
		relisted := func() float64 { return policy.metric("kube_watch_restarts_total", `kind="Server"`) }
		before := relisted()
		link.Cut()
		number++
		w.apply(generation(number))
		w.apply(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-2, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.255.1], conditions: {ready: true, serving: true, terminating: false}}]
`)
		w.remove(generation(number))
		// The history is gone from etcd, and with the process from the API server's memory: a watch cannot be resumed.
		w.api.Compact()
		w.api.Kill()
		w.api.Revive()
		link.Restore()
		w.eventually(soon, "what was deleted to be gone, and what was made to be there", func() error {
			return errors.Join(all[0].is(0xff01), all[1].is(none), all[2].is(none), all[3].is(none))
		})
		// Each watch is back in its own time.
		w.eventually(soon, "a new list of Servers, without which no watch has expired and the test shows nothing", func() error {
			if relisted() == before {
				return errors.New("none")
			}
			return nil
		})
		w.remove("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-2}")
		w.eventually(soon, "the last endpoint to go", func() error { return all[0].is(none) })
	})

	w.run("connections that died without a word", func(w *world) {
		number++
		link.Freeze()
		w.apply(generation(number))
		// Pings are lost, and so are connections that are made anew, until the way is open again.
		time.Sleep(4 * time.Second)
		link.Thaw()
		w.awaitAll(soon, all, number)
	})

	if said := dog.end(); len(said) > 0 {
		t.Errorf("readiness changed though the caches were complete: %s", said)
	}
	for _, f := range all {
		if err := f.inOrder(); err != nil && f.name != "Get" {
			t.Error(err)
		}
	}
	for _, c := range []*controller{destination, policy} {
		if !c.Running() {
			t.Errorf("%s has ended", c.component)
		}
		if strings.Contains(c.Log(), "panic") {
			t.Errorf("%s has panicked", c.component)
		}
	}
}

// awaitSome waits until all streams have had a number of messages since now.
func (w *world) awaitSome(all []*follower, n int) {
	w.t.Helper()
	for _, f := range all {
		had := f.messages()
		w.eventually(soon, "messages of "+f.name, func() error {
			if got := f.messages() - had; got < n {
				return fmt.Errorf("%d, want %d", got, n)
			}
			return nil
		})
	}
}

// TestStartWithoutAPIServer: a controller that starts while the API server is away lives, is not ready, and comes up when the
// API server does. Ending would make the kubelet wait longer and longer before each new start.
func TestStartWithoutAPIServer(t *testing.T) {
	w := newWorld(t)
	for _, component := range []string{"destination", "policy", "proxy-injector", "identity"} {
		t.Run(component, func(t *testing.T) {
			t.Parallel()
			sub := *w
			sub.t = t
			w := &sub
			link := kubeapi.NewLink(t, w.api.Address())
			link.Cut()
			c := w.start(component, starting{link: link})
			for range 10 {
				if err := c.probe("/ready"); err == nil {
					t.Fatal("ready without having read anything")
				}
				time.Sleep(100 * time.Millisecond)
			}
			link.Restore()
			c.ready()
		})
	}
}
