// Package dns finds the addresses of control-plane components (proxy chapter,
// section 19): SRV records of the bare name first, whose targets carry the
// address in their first label, A and AAAA otherwise. Answers come with how
// long they may be kept, which the standard library's resolver does not tell.
//
//	r, err := dns.New(dns.Config{})
//	answer, err := r.Resolve(ctx, "linkerd-dst-headless.linkerd.svc.cluster.local.", 8086)
//
// A Resolver is immutable and safe for concurrent use.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// leastTTL is how long any answer is kept at least, so that records without a
// time to live do not keep the DNS server busy.
const leastTTL = 5 * time.Second

// forever is the time to live of what does not come from DNS.
const forever = 365 * 24 * time.Hour

// Record types and results as they stand in the labels of
// control_dns_resolutions_total.
const (
	RecordSRV  = "SRV"
	RecordAddr = "A/AAAA"

	ResultOK       = "ok"
	ResultNotFound = "not_found"
)

// ErrNotFound: the name has no address. Resolve then still says when to ask
// again.
var ErrNotFound = errors.New("no addresses found")

// Answer is the result of a resolution.
type Answer struct {
	// Addrs are sorted and each there once.
	Addrs []netip.AddrPort
	// TTL is how long the answer may be kept, also a negative one.
	TTL time.Duration
}

// Config is what a resolver is made from; the zero value is the system's.
type Config struct {
	// File is the resolver configuration, /etc/resolv.conf if empty.
	File string
	// MinTTL and MaxTTL limit the time to live; 0 for no limit. Less than
	// five seconds is never used.
	MinTTL, MaxTTL time.Duration
	// Count, if not nil, is called for every resolution with the labels
	// record_type and result.
	Count func(recordType, result string)
}

// Resolver asks the servers of a resolver configuration.
type Resolver struct {
	cfg  Config
	file *config
}

// New reads the resolver configuration.
func New(cfg Config) (*Resolver, error) {
	if cfg.File == "" {
		cfg.File = "/etc/resolv.conf"
	}
	c, err := readConfig(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("read resolver configuration: %w", err)
	}
	if cfg.Count == nil {
		cfg.Count = func(string, string) {}
	}
	return &Resolver{cfg, c}, nil
}

// IsLoopback reports whether host is this machine itself, so that no TLS is
// needed: a loopback address or the absolute name "localhost." (proxy chapter,
// section 2.1).
func IsLoopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	return host == "localhost."
}

// Resolve returns the addresses of host; port is used where no record names
// another. Addresses and "localhost." are not asked for. The error wraps
// ErrNotFound if servers said that there is no such name; any other means that
// none of them answered.
func (r *Resolver) Resolve(ctx context.Context, host string, port uint16) (Answer, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return Answer{[]netip.AddrPort{netip.AddrPortFrom(a, port)}, forever}, nil
	}
	if host == "localhost." || host == "localhost" {
		return Answer{[]netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}, forever}, nil
	}
	srv, err := r.srv(ctx, host)
	if err == nil {
		r.cfg.Count(RecordSRV, ResultOK)
		return r.finish(srv), nil
	}
	if ctx.Err() != nil {
		return Answer{}, context.Cause(ctx)
	}
	r.cfg.Count(RecordSRV, ResultNotFound)
	addrs, err := r.addrs(ctx, host, port)
	if err != nil {
		r.cfg.Count(RecordAddr, ResultNotFound)
		if errors.Is(err, ErrNotFound) {
			addrs.TTL = r.clamp(addrs.TTL)
		}
		return addrs, fmt.Errorf("resolve %s: %w", host, err)
	}
	r.cfg.Count(RecordAddr, ResultOK)
	return r.finish(addrs), nil
}

func (r *Resolver) finish(a Answer) Answer {
	slices.SortFunc(a.Addrs, netip.AddrPort.Compare)
	a.Addrs = slices.Compact(a.Addrs)
	a.TTL = r.clamp(a.TTL)
	return a
}

func (r *Resolver) clamp(ttl time.Duration) time.Duration {
	if r.cfg.MaxTTL > 0 {
		ttl = min(ttl, r.cfg.MaxTTL)
	}
	return max(ttl, r.cfg.MinTTL, leastTTL)
}

// srv asks for SRV records. One that cannot be used spoils them all: the others
// may be half of the truth.
func (r *Resolver) srv(ctx context.Context, host string) (Answer, error) {
	msg, err := r.query(ctx, host, dnsmessage.TypeSRV)
	if err != nil {
		return Answer{}, err
	}
	out := Answer{TTL: forever}
	for _, rr := range msg.records {
		out.TTL = min(out.TTL, rr.ttl)
		if rr.target == "" {
			continue
		}
		label, _, _ := strings.Cut(rr.target, ".")
		ip, err := labelAddr(label)
		if err != nil {
			return Answer{}, fmt.Errorf("SRV target %q: %w", rr.target, err)
		}
		out.Addrs = append(out.Addrs, netip.AddrPortFrom(ip, rr.port))
	}
	if len(out.Addrs) == 0 {
		return Answer{}, ErrNotFound
	}
	return out, nil
}

// labelAddr reads "10-42-0-5" or "fd00--1", as Kubernetes names the endpoints of
// headless services.
func labelAddr(label string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ".")); err == nil {
		return a, nil
	}
	return netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
}

// addrs asks for A and AAAA records.
func (r *Resolver) addrs(ctx context.Context, host string, port uint16) (Answer, error) {
	type result struct {
		msg *message
		err error
	}
	v6 := make(chan result, 1)
	go func() {
		msg, err := r.query(ctx, host, dnsmessage.TypeAAAA)
		v6 <- result{msg, err}
	}()
	msg4, err4 := r.query(ctx, host, dnsmessage.TypeA)
	six := <-v6
	out := Answer{TTL: forever}
	negative := time.Duration(0)
	for _, m := range []result{{msg4, err4}, six} {
		if m.err != nil {
			if m.msg != nil && m.msg.authoritative {
				negative = m.msg.negative
			}
			continue
		}
		for _, rr := range m.msg.records {
			if rr.addr.IsValid() {
				out.Addrs = append(out.Addrs, netip.AddrPortFrom(rr.addr, port))
			}
			out.TTL = min(out.TTL, rr.ttl)
		}
	}
	switch {
	case len(out.Addrs) > 0:
		return out, nil
	case err4 != nil && !errors.Is(err4, ErrNotFound):
		return Answer{}, err4
	case six.err != nil && !errors.Is(six.err, ErrNotFound):
		return Answer{}, six.err
	}
	return Answer{TTL: negative}, ErrNotFound
}

// query asks for host, with the search list if it is relative. ErrNotFound
// comes with the message that says so.
func (r *Resolver) query(ctx context.Context, host string, kind dnsmessage.Type) (*message, error) {
	var last *message
	err := ErrNotFound
	for _, name := range r.file.names(host) {
		var msg *message
		if msg, err = r.ask(ctx, name, kind); err == nil {
			return msg, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		last = msg
	}
	return last, err
}

// ask asks the servers in turn, each as often as the configuration says.
func (r *Resolver) ask(ctx context.Context, name string, kind dnsmessage.Type) (*message, error) {
	last := errors.New("no DNS server is configured")
	for range r.file.attempts {
		for _, server := range r.file.servers {
			msg, err := r.file.query(ctx, server, name, kind)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			switch {
			case err != nil:
				last = err
			case msg.code == dnsmessage.RCodeNameError, msg.code == dnsmessage.RCodeSuccess && len(msg.records) == 0:
				return msg, ErrNotFound
			case msg.code != dnsmessage.RCodeSuccess:
				last = fmt.Errorf("server %s answers %s", server, codeName(msg.code))
			default:
				return msg, nil
			}
		}
	}
	return nil, last
}
