package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	destinationpb "github.com/linkerd-go/linkerd-go/api/lean/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/lean/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/lean/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// Controller is a connection to a controller and how its streams behave.
type Controller struct {
	Conn *rpc.Conn
	// Loopback controllers have no stream limits and a shorter backoff.
	Loopback bool
}

// Config is what a Client is made from.
type Config struct {
	Destination, Policy Controller
	// ContextToken goes with requests to the destination controller, Workload
	// with those to the policy controller; both verbatim.
	ContextToken, Workload string
	// Limits of streams.
	Limits Limits
	// Backoff of streams; zero means that of the chapter.
	Backoff model.Backoff
	// ProfileNetworks and ProfileSuffixes say which addresses and names may
	// have profiles; GatewaySuffixes which names a gateway serves, none if
	// empty. The suffix "." is every name.
	ProfileNetworks                  []netip.Prefix
	ProfileSuffixes, GatewaySuffixes []string
	// OutboundIdle and InboundIdle are how long what was looked up is kept
	// after its last use; 0 means 5s and 90s.
	OutboundIdle, InboundIdle time.Duration
	// FirstAnswer limits how long connections wait for the first answer of a
	// controller that cannot be reached; 0 means 30s.
	FirstAnswer time.Duration
	// DefaultPolicy gives the policy of a port until one is received.
	DefaultPolicy func(port uint16) *model.ServerPolicy
	// DetectTimeout is that of ports whose policy is invalid.
	DetectTimeout time.Duration
	// Ports are watched from the start and never expire.
	Ports []uint16
	// Log, nil for slog's default.
	Log *slog.Logger
}

// Client is the proxy's discovery. It implements the interfaces of package
// lookup. All methods may be called from any goroutine.
type Client struct {
	cfg Config

	targets   *lookup.Cache[targetKey, lookup.Targets]
	endpoints *lookup.Cache[string, lookup.Endpoints]
	servers   *lookup.Cache[uint16, lookup.Servers]
	profiles  *lookup.Cache[string, lookup.Profiles]
	permanent []*lookup.Lease[lookup.Servers]
}

var (
	_ lookup.Outbound = (*Client)(nil)
	_ lookup.Resolver = (*Client)(nil)
	_ lookup.Inbound  = (*Client)(nil)
	_ lookup.Profiler = (*Client)(nil)
)

// New makes a client and starts watching cfg.Ports. Close has to be called,
// before the connections are closed.
func New(cfg Config) *Client {
	if cfg.OutboundIdle == 0 {
		cfg.OutboundIdle = 5 * time.Second
	}
	if cfg.InboundIdle == 0 {
		cfg.InboundIdle = 90 * time.Second
	}
	if cfg.FirstAnswer == 0 {
		cfg.FirstAnswer = 30 * time.Second
	}
	if cfg.DefaultPolicy == nil {
		cfg.DefaultPolicy = func(uint16) *model.ServerPolicy {
			return model.DefaultServerPolicy(model.DenyPolicy, nil, 0, false)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &Client{cfg: cfg}
	c.targets = lookup.NewCache(cfg.OutboundIdle, c.runTarget)
	c.endpoints = lookup.NewCache(cfg.OutboundIdle, c.runEndpoints)
	c.servers = lookup.NewCache(cfg.InboundIdle, c.runServer)
	c.profiles = lookup.NewCache(cfg.InboundIdle, c.runProfile)
	for _, p := range cfg.Ports {
		if l, err := c.Server(p); err == nil {
			c.permanent = append(c.permanent, l)
		}
	}
	return c
}

// Close ends all streams and waits for their goroutines.
func (c *Client) Close() {
	for _, l := range c.permanent {
		l.Release()
	}
	c.targets.Close()
	c.endpoints.Close()
	c.servers.Close()
	c.profiles.Close()
}

// Sizes are the numbers of things that are looked up, for metrics.
type Sizes struct{ Targets, Endpoints, Servers, Profiles int }

// Sizes returns how many lookups are kept at present.
func (c *Client) Sizes() Sizes {
	return Sizes{c.targets.Len(), c.endpoints.Len(), c.servers.Len(), c.profiles.Len()}
}

// newSource fills in what all streams of a controller share.
func newSource[M any](c *Client, ctl Controller, log *slog.Logger) *source[M] {
	s := &source[M]{limits: c.cfg.Limits, backoff: c.cfg.Backoff, log: log}
	if ctl.Loopback {
		s.limits = Limits{}
	}
	if s.backoff == (model.Backoff{}) {
		s.backoff = remoteBackoff
		if ctl.Loopback {
			s.backoff = loopbackBackoff
		}
	}
	return s
}

// Server implements lookup.Inbound.
func (c *Client) Server(port uint16) (*lookup.Lease[lookup.Servers], error) {
	return c.servers.Get(context.Background(), port)
}

func (c *Client) runServer(ctx context.Context, port uint16, ready func(lookup.Servers)) error {
	value := watch.New(c.cfg.DefaultPolicy(port))
	ready(value)
	log := c.cfg.Log.With("api", "WatchPort", "port", port)
	s := newSource[inboundpb.Server](c, c.cfg.Policy, log)
	s.open = func(ctx context.Context) (receiver[inboundpb.Server], error) {
		spec := inboundpb.PortSpec{Workload: c.cfg.Workload, Port: uint32(port)}
		return follow[inboundpb.Server](ctx, c.cfg.Policy.Conn, inboundpb.InboundServerPolicies_WatchPort_FullMethodName, spec.AppendWire(nil))
	}
	s.receive = func(m *inboundpb.Server) {
		p, err := decode.Server(m, c.cfg.DetectTimeout)
		if err != nil {
			log.Warn("Received invalid server policy", "error", err)
		}
		value.Set(p)
	}
	s.failed = rejected
	return s.watch(ctx)
}

// Endpoints implements lookup.Resolver.
func (c *Client) Endpoints(path string) (*lookup.Lease[lookup.Endpoints], error) {
	return c.endpoints.Get(context.Background(), path)
}

func (c *Client) runEndpoints(ctx context.Context, path string, ready func(lookup.Endpoints)) error {
	value := watch.New[*model.EndpointSet](nil)
	ready(value)
	set := newEndpoints()
	s := newSource[destinationpb.Update](c, c.cfg.Destination, c.cfg.Log.With("api", "Get", "path", path))
	s.open = func(ctx context.Context) (receiver[destinationpb.Update], error) {
		get := destinationpb.GetDestination{Path: path, ContextToken: c.cfg.ContextToken}
		return follow[destinationpb.Update](ctx, c.cfg.Destination.Conn, destinationpb.Destination_Get_FullMethodName, get.AppendWire(nil))
	}
	s.connected = set.reconnected
	s.receive = func(u *destinationpb.Update) {
		if snapshot := set.apply(u); snapshot != nil {
			value.Set(snapshot)
		}
	}
	s.failed = func(err error) bool {
		if !rejected(err) {
			return false
		}
		value.Set(&model.EndpointSet{Updates: set.updates, Err: fmt.Errorf("resolve %s: %w", path, err)})
		return true
	}
	return s.watch(ctx)
}

// profileState is what is known about a profile: nothing until settled.
type profileState struct {
	settled bool
	profile *model.Profile
}

// watchProfile keeps value up to date until ctx is done or the controller has
// rejected the target for good.
func (c *Client) watchProfile(ctx context.Context, path string, value *watch.Value[profileState]) {
	log := c.cfg.Log.With("api", "GetProfile", "path", path)
	s := newSource[destinationpb.DestinationProfile](c, c.cfg.Destination, log)
	s.open = func(ctx context.Context) (receiver[destinationpb.DestinationProfile], error) {
		get := destinationpb.GetDestination{Path: path, ContextToken: c.cfg.ContextToken}
		return follow[destinationpb.DestinationProfile](ctx, c.cfg.Destination.Conn, destinationpb.Destination_GetProfile_FullMethodName, get.AppendWire(nil))
	}
	// mu keeps a late give-up from undoing a first answer.
	var mu sync.Mutex
	s.receive = func(m *destinationpb.DestinationProfile) {
		mu.Lock()
		defer mu.Unlock()
		value.Set(profileState{true, decode.Profile(m)})
	}
	s.failed = func(err error) bool {
		if rejected(err) {
			value.Set(profileState{settled: true})
			return true
		}
		return false
	}
	// A controller that cannot be reached must not hold connections back for
	// ever: they go on without a profile, which may still come later.
	giveUp := time.AfterFunc(c.cfg.FirstAnswer, func() {
		mu.Lock()
		defer mu.Unlock()
		if !value.Get().settled {
			log.Warn("No profile in time, going on without")
			value.Set(profileState{settled: true})
		}
	})
	defer giveUp.Stop()
	_ = s.watch(ctx) // told by value
}

// policyState is what is known about a policy: nothing until settled, then a
// policy, that there is none (nil), or an error.
type policyState struct {
	settled bool
	policy  *model.ClientPolicy
	err     error
}

// watchPolicy keeps value up to date until ctx is done or it failed for good.
func (c *Client) watchPolicy(ctx context.Context, spec *outboundpb.TrafficSpec, name string, value *watch.Value[policyState]) {
	log := c.cfg.Log.With("api", "Watch", "target", name)
	s := newSource[outboundpb.OutboundPolicy](c, c.cfg.Policy, log)
	s.open = func(ctx context.Context) (receiver[outboundpb.OutboundPolicy], error) {
		return follow[outboundpb.OutboundPolicy](ctx, c.cfg.Policy.Conn, outboundpb.OutboundPolicies_Watch_FullMethodName, spec.AppendWire(nil))
	}
	// mu keeps a late give-up from undoing a first answer, and guards last.
	var mu sync.Mutex
	last := errNoAnswer
	s.receive = func(m *outboundpb.OutboundPolicy) {
		p, err := decode.ClientPolicy(m)
		if err != nil {
			log.Warn("Received invalid client policy", "error", err)
		}
		mu.Lock()
		defer mu.Unlock()
		value.Set(policyState{settled: true, policy: p})
	}
	s.failed = func(err error) bool {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			last = err
		}
		first := !value.Get().settled
		switch {
		case rejected(err):
			if first {
				value.Set(policyState{settled: true, err: err})
			}
			return true
		case unknown(err):
			// A policy that was known stays; otherwise there is none.
			if first {
				value.Set(policyState{settled: true})
			}
			return true
		}
		return false
	}
	giveUp := time.AfterFunc(c.cfg.FirstAnswer, func() {
		mu.Lock()
		defer mu.Unlock()
		if !value.Get().settled {
			value.Set(policyState{settled: true, err: last})
		}
	})
	defer giveUp.Stop()
	_ = s.watch(ctx) // told by value
}

// errNoAnswer: the policy controller said nothing at all.
var errNoAnswer = errors.New("no answer from the controller")

// targetKey is what a target is looked up by.
type targetKey struct {
	kind targetKind
	addr netip.AddrPort
	name string
	port uint16
}

type targetKind uint8

const (
	kindAddr targetKind = iota
	kindIngress
	kindGateway
)

// Addr implements lookup.Outbound.
func (c *Client) Addr(ctx context.Context, dst netip.AddrPort) (*lookup.Lease[lookup.Targets], error) {
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	return c.targets.Get(ctx, targetKey{kind: kindAddr, addr: dst})
}

// Ingress implements lookup.Outbound.
func (c *Client) Ingress(ctx context.Context, name string, port uint16) (*lookup.Lease[lookup.Targets], error) {
	return c.named(ctx, kindIngress, name, port)
}

// Gateway implements lookup.Outbound.
func (c *Client) Gateway(ctx context.Context, name string, port uint16) (*lookup.Lease[lookup.Targets], error) {
	if !matchSuffix(c.cfg.GatewaySuffixes, name) {
		return nil, fmt.Errorf("%s is outside of the gateway's domains: %w", name, lookup.ErrNotDiscovered)
	}
	return c.named(ctx, kindGateway, name, port)
}

func (c *Client) named(ctx context.Context, kind targetKind, name string, port uint16) (*lookup.Lease[lookup.Targets], error) {
	n, err := model.ParseDNSName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, lookup.ErrNotDiscovered)
	}
	return c.targets.Get(ctx, targetKey{kind: kind, name: n, port: port})
}

// runTarget watches profile and policy of a target and combines them.
func (c *Client) runTarget(ctx context.Context, key targetKey, ready func(lookup.Targets)) error {
	spec := &outboundpb.TrafficSpec{SourceWorkload: c.cfg.Workload}
	var path string
	var wantProfile bool
	var combine func(*model.Profile, *model.ClientPolicy) (*model.Target, error)
	if key.kind == kindAddr {
		path = key.addr.String()
		spec.Target = &outboundpb.TrafficSpec_Addr{Addr: decode.EncodeAddr(key.addr)}
		for _, n := range c.cfg.ProfileNetworks {
			wantProfile = wantProfile || n.Contains(key.addr.Addr())
		}
		combine = func(pr *model.Profile, po *model.ClientPolicy) (*model.Target, error) {
			return combineAddr(key.addr, pr, po), nil
		}
	} else {
		path = hostPort(key.name, key.port)
		spec.Target = &outboundpb.TrafficSpec_Authority{Authority: path}
		wantProfile = matchSuffix(c.cfg.ProfileSuffixes, key.name)
		f := combineIngress
		if key.kind == kindGateway {
			f = combineGateway
		}
		combine = func(pr *model.Profile, po *model.ClientPolicy) (*model.Target, error) {
			return f(key.name, key.port, pr, po)
		}
	}

	ctx, cancel := context.WithCancel(ctx)
	profile := watch.New(profileState{settled: !wantProfile})
	policy := watch.New(policyState{})
	done := make(chan struct{}, 2)
	n := 1
	if wantProfile {
		n++
		go func() { c.watchProfile(ctx, path, profile); done <- struct{}{} }()
	}
	go func() { c.watchPolicy(ctx, spec, path, policy); done <- struct{}{} }()
	defer func() {
		cancel()
		for range n {
			<-done
		}
	}()

	var out *watch.Value[*model.Target]
	for {
		pr, prChanged := profile.Watch()
		po, poChanged := policy.Watch()
		if po.err != nil {
			return fmt.Errorf("policy of %s: %w", path, po.err)
		}
		if pr.settled && po.settled {
			t, err := combine(pr.profile, po.policy)
			switch {
			case err != nil && out == nil:
				return err
			case err != nil:
				// Live connections keep the last target they had.
				c.cfg.Log.Warn("Target is no longer discovered", "target", path, "error", err)
			case out == nil:
				out = watch.New(t)
				ready(out)
			default:
				out.Set(t)
			}
		}
		select {
		case <-prChanged:
		case <-poChanged:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Profile implements lookup.Profiler. Names outside the profile suffixes have
// none.
func (c *Client) Profile(ctx context.Context, name string, port uint16) (*lookup.Lease[lookup.Profiles], error) {
	n, err := model.ParseDNSName(name)
	if err != nil || !matchSuffix(c.cfg.ProfileSuffixes, n) {
		return lookup.NewLease(watch.Const[*model.Profile](nil), nil), nil
	}
	return c.profiles.Get(ctx, hostPort(n, port))
}

func (c *Client) runProfile(ctx context.Context, path string, ready func(lookup.Profiles)) error {
	state := watch.New(profileState{})
	done := make(chan struct{})
	go func() { defer close(done); c.watchProfile(ctx, path, state) }()
	defer func() { <-done }()
	for {
		s, changed := state.Watch()
		if s.settled {
			ready(watch.Mapped[profileState](state, func(s profileState) *model.Profile { return s.profile }))
			<-ctx.Done()
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// matchSuffix reports whether name is one of the suffixes or below one. Case
// and trailing dots do not matter; "." is every name.
func matchSuffix(suffixes []string, name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, s := range suffixes {
		s = strings.ToLower(strings.Trim(s, "."))
		if s == "" || name == s || strings.HasSuffix(name, "."+s) {
			return true
		}
	}
	return false
}
