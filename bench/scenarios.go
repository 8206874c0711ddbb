package main

import (
	"context"
	"net/netip"

	"github.com/linkerd-go/linkerd-go/bench/lab"
	"github.com/linkerd-go/linkerd-go/bench/load"
)

// authority is the name that requests are for.
const authority = "web.bench.svc.cluster.local"

// Systems, in the order of the table.
const (
	direct  = "direct"
	nginx   = "nginx"
	haproxy = "haproxy"
	ours    = "ours"
)

// A system is one row: where the load goes, and whose time counts.
type system struct {
	name string
	addr netip.AddrPort
	// mesh says that the client's connections are redirected.
	mesh bool
	// processes are what is measured; nil for none.
	processes func(*lab.Lab) []*lab.Process
}

// A scenario is what is done to each of its systems. Exactly one of load, bulk,
// memory and control is set.
type scenario struct {
	name, what string
	// load is the shape of the requests at saturation; rate is how many of
	// them per second latency is measured at.
	load *load.Options
	rate int
	// latency says that there is only the fixed rate.
	latency bool
	bulk    []bool
	memory  func(*runner, scenario) error
	// control is for scenarios of the control plane, which has no systems to be
	// compared with.
	control func(*runner, context.Context, scenario) error
	systems []system
}

func processes(f func(*lab.Lab) []*lab.Process) func(*lab.Lab) []*lab.Process { return f }

var (
	nginxHop   = processes(func(l *lab.Lab) []*lab.Process { return []*lab.Process{l.Nginx} })
	nginxTwice = processes(func(l *lab.Lab) []*lab.Process { return []*lab.Process{l.NginxClient, l.Nginx} })
	haHop      = processes(func(l *lab.Lab) []*lab.Process { return []*lab.Process{l.HAProxy} })
	haTwice    = processes(func(l *lab.Lab) []*lab.Process { return []*lab.Process{l.HAProxyClient, l.HAProxy} })
	inbound    = processes(func(l *lab.Lab) []*lab.Process { return []*lab.Process{l.Inbound} })
	pair       = processes(func(l *lab.Lab) []*lab.Process { return []*lab.Process{l.Outbound, l.Inbound} })
)

// Systems of several scenarios.
var (
	pairH1 = []system{
		{direct, lab.Direct, false, nil}, {nginx, lab.Nginx, false, nginxHop}, {haproxy, lab.HAProxy, false, haHop},
		{ours, lab.Service, true, pair},
	}
	pairGRPC = []system{
		{direct, lab.GRPCDirect, false, nil}, {nginx, lab.NginxGRPC, false, nginxHop}, {haproxy, lab.HAProxyGRPC, false, haHop},
		{ours, lab.GRPCService, true, pair},
	}
	oneHop = []system{
		{nginx, lab.Nginx, false, nginxHop}, {haproxy, lab.HAProxy, false, haHop}, {ours, lab.App, false, inbound},
	}
)

func http1(path string, body int) *load.Options {
	return &load.Options{Protocol: load.HTTP1, Conns: 32, InFlight: 1, Path: path, Body: body, Authority: authority}
}

// scenarios are all, in the order in which they run: idle memory first, while
// nothing has happened yet.
var scenarios = []scenario{
	{name: "idle", what: "memory of a proxy without traffic", memory: (*runner).idle, systems: oneHop},
	{name: "idle-conns", what: "memory with 1,100 idle client connections, each after one request", memory: (*runner).idleConns, systems: oneHop},
	{name: "inbound-h1", what: "one hop, plaintext HTTP/1.1, policy and metrics on", load: http1("/", 0), rate: 2000, systems: []system{
		{direct, lab.Direct, false, nil}, {nginx, lab.Nginx, false, nginxHop}, {haproxy, lab.HAProxy, false, haHop},
		{ours, lab.App, false, inbound},
	}},
	{name: "pair-h1", what: "HTTP/1.1 through outbound proxy, mTLS and inbound proxy; the others one hop", load: http1("/", 0), rate: 2000, systems: pairH1},
	{name: "pair-h1-1k", what: "the same with bodies of 1 KiB both ways", load: http1("/1k", 1<<10), rate: 2000, systems: pairH1},
	{name: "pair-h1-64k", what: "the same with bodies of 64 KiB both ways", load: http1("/64k", 64<<10), rate: 200, systems: pairH1},
	{name: "pair-grpc-unary", what: "unary gRPC calls of 64 bytes through both proxies; the others one hop", rate: 2000, systems: pairGRPC,
		load: &load.Options{Protocol: load.GRPC, Conns: 4, InFlight: 16, Path: "/bench.Echo/Unary", Body: 64, Authority: authority}},
	{name: "pair-grpc-stream", what: "messages of 64 bytes on 32 bidirectional gRPC streams; a request is a message and its echo", rate: 2000, systems: pairGRPC,
		load: &load.Options{Protocol: load.Stream, Conns: 4, InFlight: 64, Streams: 8, Path: "/bench.Echo/Stream", Body: 64, Authority: authority}},
	{name: "pair-latency", what: "HTTP/1.1 at 2,000 requests/s; two hops for everybody", load: http1("/", 0), rate: 2000, latency: true, systems: []system{
		{direct, lab.Direct, false, nil}, {nginx, lab.NginxTwice, false, nginxTwice}, {haproxy, lab.HAProxyTwice, false, haTwice},
		{ours, lab.Service, true, pair},
	}},
	{name: "pair-latency-mtls", what: "the same, with mTLS between the two hops of nginx", load: http1("/", 0), rate: 2000, latency: true, systems: []system{
		{direct, lab.Direct, false, nil}, {nginx, lab.NginxMTLS, false, nginxTwice}, {ours, lab.Service, true, pair},
	}},
	{name: "tcp-mtls", what: "opaque TCP over mTLS, bulk, both ways at once; two hops", bulk: []bool{true, false}, systems: []system{
		{direct, lab.TCPDirect, false, nil}, {haproxy, lab.HAProxyMTLS, false, haTwice}, {ours, lab.TCPService, true, pair},
	}},
	{name: "tcp-plain", what: "TCP pass-through, bulk, both ways at once; one hop", bulk: []bool{true, false}, systems: []system{
		{direct, lab.TCPDirect, false, nil}, {haproxy, lab.HAProxyTCP, false, haHop}, {ours, lab.TCPApp, false, inbound},
	}},
	{name: "burst", what: "memory 60 s after a burst of 5,000 connections", memory: (*runner).burst, systems: oneHop},
	{name: "control-cold-start", what: "a controller's start until its first right answer, with 10,000 endpoints", control: (*runner).controlColdStart},
	{name: "control-change", what: "a change's way to the last of 2,000 proxies, of one service and of many", control: (*runner).controlChange},
	{name: "control-resync", what: "messages to 2,000 proxies when the API server restarts and nothing has changed", control: (*runner).controlResync},
	{name: "control-memory", what: "the controllers' memory with 2,500, 5,000 and 10,000 endpoints, and when all has gone", control: (*runner).controlMemory},
}
