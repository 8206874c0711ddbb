package netlab_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/redirect/nft"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
	"github.com/linkerd-go/linkerd-go/redirect/xtables"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

const (
	appUID   = 1000
	proxyUID = 2102
	proxyGID = 2103
)

// A backend is a way to get a plan into the kernel. All of them must behave the
// same, so all of them run the same tests.
type backend struct {
	name   string
	apply  func(rules.Plan) error
	remove func() error
	// count returns how many rules are there, jumps included.
	count func() (int, error)
}

func backends() []backend {
	return []backend{{
		name:   "nft",
		apply:  nft.Apply,
		remove: nft.Remove,
		count: func() (int, error) {
			installed, err := nft.Installed()
			return len(installed), err
		},
	}, {
		name:   "xtables",
		apply:  xtables.Apply,
		remove: xtables.Remove,
		count: func() (int, error) {
			installed, err := xtables.Installed()
			return len(installed), err
		},
	}}
}

func options() rules.Options {
	return rules.Options{
		InboundProxyPort:        4143,
		OutboundProxyPort:       4140,
		ProxyUID:                proxyUID,
		ProxyGID:                proxyGID,
		InboundPortsToIgnore:    []string{"4190", "4191", "9000-9002"},
		OutboundPortsToIgnore:   []string{"4567", "7000-7010", "65535"},
		SubnetsToIgnore:         []string{"10.88.0.0/16", "fd88::/32"},
		OutboundSubnetsToIgnore: []string{"10.99.0.0/24", "fd99::7/128"},
		IPv6:                    true,
	}
}

func build(t *testing.T, o rules.Options) rules.Plan {
	t.Helper()
	plan, err := rules.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// newLab makes a lab whose pod has a proxy and an application, and whose peer
// has servers on the ports that the tests ask.
func newLab(t *testing.T) *netlab.Lab {
	lab := netlab.New(t)
	for _, p := range []string{"10.88.0.1/32", "10.99.0.1/32", "10.99.1.1/32", "fd88::1/128", "fd99::7/128", "fd99::8/128"} {
		lab.Peer.AddAddr(t, "lo", netip.MustParsePrefix(p))
	}
	proxy := lab.Pod.As(proxyUID, proxyGID)
	proxy.ServeProxy(t, "inbound", "tcp", ":4143")
	proxy.ServeProxy(t, "outbound", "tcp4", "127.0.0.1:4140")
	proxy.ServeProxy(t, "outbound", "tcp6", "[::1]:4140")
	app := lab.Pod.As(appUID, appUID)
	for _, port := range []int{8080, 4190, 4191, 9000, 9002, 9003} {
		app.ServeApp(t, "tcp", fmt.Sprintf(":%d", port))
	}
	for _, port := range []int{80, 4567, 6999, 7000, 7010, 7011, 65534, 65535} {
		lab.Peer.Root().ServeApp(t, "tcp", fmt.Sprintf(":%d", port))
	}
	return lab
}

// A dial is one connection and what must come of it.
type dial struct {
	name string
	from string // pod, peer
	uid  int
	gid  int
	src  string // local address, empty for any
	to   string
	want string // the one line that the client reads
}

var redirected = []dial{
	// Outbound.
	{name: "the application is redirected", from: "pod", uid: appUID, to: "PEER:80", want: "outbound PEER:80"},
	{name: "root is redirected", from: "pod", to: "PEER:80", want: "outbound PEER:80"},
	{name: "an address nobody has is redirected", from: "pod", uid: appUID, to: "NOBODY:443", want: "outbound NOBODY:443"},
	{name: "the proxy is not", from: "pod", uid: proxyUID, to: "PEER:80", want: "app PEER:80"},
	{name: "the proxy's group is not", from: "pod", uid: appUID, gid: proxyGID, to: "PEER:80", want: "app PEER:80"},
	{name: "an ignored port is not", from: "pod", uid: appUID, to: "PEER:4567", want: "app PEER:4567"},
	{name: "the port before an ignored range is", from: "pod", uid: appUID, to: "PEER:6999", want: "outbound PEER:6999"},
	{name: "the first of an ignored range is not", from: "pod", uid: appUID, to: "PEER:7000", want: "app PEER:7000"},
	{name: "the last of an ignored range is not", from: "pod", uid: appUID, to: "PEER:7010", want: "app PEER:7010"},
	{name: "the port after an ignored range is", from: "pod", uid: appUID, to: "PEER:7011", want: "outbound PEER:7011"},
	{name: "the last port but one is", from: "pod", uid: appUID, to: "PEER:65534", want: "outbound PEER:65534"},
	{name: "the last port is ignored", from: "pod", uid: appUID, to: "PEER:65535", want: "app PEER:65535"},
	{name: "inbound ignores do not count outbound", from: "pod", uid: appUID, to: "PEER:4191", want: "outbound PEER:4191"},
	{name: "an ignored outbound network is not", from: "pod", uid: appUID, to: "IGNORED:80", want: "app IGNORED:80"},
	{name: "its neighbour is", from: "pod", uid: appUID, to: "NEIGHBOUR:80", want: "outbound NEIGHBOUR:80"},

	// Inside the pod.
	{name: "loopback is left alone", from: "pod", uid: appUID, to: "LOOP:8080", want: "app LOOP:8080"},
	{name: "the pod's own address is left alone", from: "pod", uid: appUID, to: "POD:8080", want: "app POD:8080"},
	{name: "the proxy reaches the application", from: "pod", uid: proxyUID, to: "POD:8080", want: "app POD:8080"},

	// Inbound.
	{name: "a client is redirected", from: "peer", to: "POD:8080", want: "inbound POD:8080"},
	{name: "a port without listener is redirected", from: "peer", to: "POD:1", want: "inbound POD:1"},
	{name: "the proxy port itself keeps its number", from: "peer", to: "POD:4143", want: "inbound POD:4143"},
	{name: "the tap port is left alone", from: "peer", to: "POD:4190", want: "app POD:4190"},
	{name: "the admin port is left alone", from: "peer", to: "POD:4191", want: "app POD:4191"},
	{name: "the first of a range is left alone", from: "peer", to: "POD:9000", want: "app POD:9000"},
	{name: "the last of a range is left alone", from: "peer", to: "POD:9002", want: "app POD:9002"},
	{name: "the port after a range is redirected", from: "peer", to: "POD:9003", want: "inbound POD:9003"},
	{name: "outbound ignores do not count inbound", from: "peer", to: "POD:4567", want: "inbound POD:4567"},
	{name: "a client of an ignored network is left alone", from: "peer", src: "FRIEND", to: "POD:8080", want: "app POD:8080"},
}

// places spells the addresses of the table above for one family.
var places = map[rules.Family]*strings.Replacer{
	rules.IPv4: strings.NewReplacer("PEER", "10.77.0.1", "NOBODY", "192.0.2.9", "IGNORED", "10.99.0.1",
		"NEIGHBOUR", "10.99.1.1", "LOOP", "127.0.0.1", "POD", "10.77.0.2", "FRIEND", "10.88.0.1"),
	rules.IPv6: strings.NewReplacer("PEER", "[fd77::1]", "NOBODY", "[2001:db8::9]", "IGNORED", "[fd99::7]",
		"NEIGHBOUR", "[fd99::8]", "LOOP", "[::1]", "POD", "[fd77::2]", "FRIEND", "fd88::1"),
}

func (d dial) check(t *testing.T, lab *netlab.Lab, family rules.Family) {
	t.Helper()
	place := places[family]
	ns := lab.Pod
	if d.from == "peer" {
		ns = lab.Peer
	}
	var src netip.Addr
	if d.src != "" {
		src = netip.MustParseAddr(place.Replace(d.src))
	}
	ctx, cancel := context.WithTimeout(t.Context(), netlab.Timeout)
	defer cancel()
	got, err := ns.As(d.uid, d.gid).AskFrom(ctx, src, place.Replace(d.to))
	if err != nil {
		t.Fatalf("%s: %v", place.Replace(d.to), err)
	}
	if want := place.Replace(d.want); got != want {
		t.Errorf("dial %s: answer %q, want %q", place.Replace(d.to), got, want)
	}
}

func TestRedirection(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			lab := newLab(t)
			if err := lab.Pod.Do(func() error { return b.apply(build(t, options())) }); err != nil {
				t.Fatal(err)
			}
			for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
				t.Run(family.String(), func(t *testing.T) {
					for _, d := range redirected {
						t.Run(d.name, func(t *testing.T) { d.check(t, lab, family) })
					}
				})
			}
		})
	}
}

// Only the listed ports are redirected, and UDP never is.
func TestPortsToRedirect(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			lab := newLab(t)
			o := options()
			o.PortsToRedirect = []int{8080, 9003}
			if err := lab.Pod.Do(func() error { return b.apply(build(t, o)) }); err != nil {
				t.Fatal(err)
			}
			lab.Pod.As(appUID, appUID).ServeApp(t, "tcp", ":8081")
			for _, d := range []dial{
				{from: "peer", to: "POD:8080", want: "inbound POD:8080"},
				{from: "peer", to: "POD:9003", want: "inbound POD:9003"},
				{from: "peer", to: "POD:8081", want: "app POD:8081"},
				{from: "pod", to: "PEER:80", want: "outbound PEER:80"},
			} {
				d.check(t, lab, rules.IPv4)
				d.check(t, lab, rules.IPv6)
			}
		})
	}
}

func TestUDPPasses(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			lab := netlab.New(t)
			if err := lab.Pod.Do(func() error { return b.apply(build(t, options())) }); err != nil {
				t.Fatal(err)
			}
			for _, address := range []string{"10.77.0.1:53", "[fd77::1]:53"} {
				server := lab.Peer.Root().ListenPacket(t, "udp", address)
				ctx, cancel := context.WithTimeout(t.Context(), netlab.Timeout)
				defer cancel()
				client, err := lab.Pod.As(appUID, appUID).Dial(ctx, "udp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				if _, err := client.Write([]byte("question")); err != nil {
					t.Fatal(err)
				}
				deadline, _ := ctx.Deadline()
				server.SetReadDeadline(deadline)
				buf := make([]byte, 64)
				n, _, err := server.ReadFrom(buf)
				if err != nil || string(buf[:n]) != "question" {
					t.Errorf("%s got %q, %v", address, buf[:n], err)
				}
			}
		})
	}
}

// Without IPv6 in the plan, IPv6 goes where it wants, also after an earlier
// plan that had it.
func TestIPv4Only(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			lab := newLab(t)
			o := options()
			for _, withIPv6 := range []bool{true, false} {
				o.IPv6 = withIPv6
				if err := lab.Pod.Do(func() error { return b.apply(build(t, o)) }); err != nil {
					t.Fatal(err)
				}
			}
			dial{from: "pod", uid: appUID, to: "PEER:80", want: "outbound PEER:80"}.check(t, lab, rules.IPv4)
			dial{from: "pod", uid: appUID, to: "PEER:80", want: "app PEER:80"}.check(t, lab, rules.IPv6)
		})
	}
}

// An init container can run again in a pod that lives, after the node was
// restarted for example. That must neither pile up rules nor let one connection
// through while the rules are replaced.
func TestApplyAgain(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			lab := newLab(t)
			plan := build(t, options())
			apply := func() int {
				var n int
				err := lab.Pod.Do(func() (err error) {
					if err = b.apply(plan); err == nil {
						n, err = b.count()
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
				return n
			}
			first := apply()
			if want := 2 * (2 + 3 + 6); first != want {
				t.Errorf("%d rules, want %d", first, want)
			}

			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
						if again := apply(); again != first {
							t.Errorf("%d rules after applying again, %d before", again, first)
						}
					}
				}
			}()
			for range 200 {
				dial{from: "pod", uid: appUID, to: "PEER:80", want: "outbound PEER:80"}.check(t, lab, rules.IPv4)
				dial{from: "peer", to: "POD:8080", want: "inbound POD:8080"}.check(t, lab, rules.IPv6)
			}
			close(stop)
			<-done

			// A changed plan replaces the old one.
			o := options()
			o.OutboundPortsToIgnore = nil
			plan = build(t, o)
			if n := apply(); n != first-2 {
				t.Errorf("%d rules after taking one away per family, want %d", n, first-2)
			}
			dial{from: "pod", uid: appUID, to: "PEER:4567", want: "outbound PEER:4567"}.check(t, lab, rules.IPv4)
		})
	}
}

func TestRemove(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			lab := newLab(t)
			err := lab.Pod.Do(func() error {
				// Removing what is not there is fine.
				if err := b.remove(); err != nil {
					return err
				}
				if err := b.apply(build(t, options())); err != nil {
					return err
				}
				if err := b.remove(); err != nil {
					return err
				}
				n, err := b.count()
				if err == nil && n != 0 {
					err = fmt.Errorf("%d rules are left", n)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
				dial{from: "pod", uid: appUID, to: "PEER:80", want: "app PEER:80"}.check(t, lab, family)
				dial{from: "peer", to: "POD:8080", want: "app POD:8080"}.check(t, lab, family)
			}
		})
	}
}
