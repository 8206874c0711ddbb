package rules

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Options is what the user of the mesh can say about redirection. The init
// container fills it from flags (proxy chapter, section 24.1), the CNI plugin
// from its network configuration and the pod's annotations (section 26.1).
type Options struct {
	// InboundProxyPort is where connections to the pod are sent, 0 to 65535.
	InboundProxyPort int
	// OutboundProxyPort is where connections from the pod are sent.
	OutboundProxyPort int
	// ProxyUID is the user whose traffic is left alone, because it is the
	// proxy itself. Zero or negative: no such user.
	ProxyUID int
	// ProxyGID is like ProxyUID for the group.
	ProxyGID int
	// PortsToRedirect, when not empty, limits inbound redirection to these.
	PortsToRedirect []int
	// InboundPortsToIgnore holds ports ("80") and inclusive ranges ("80-90")
	// that reach the application without the proxy.
	InboundPortsToIgnore []string
	// OutboundPortsToIgnore is the same for connections from the pod.
	OutboundPortsToIgnore []string
	// SubnetsToIgnore holds networks in CIDR notation whose connections to the
	// pod bypass the proxy. Each is used in the rules of its own family.
	SubnetsToIgnore []string
	// OutboundSubnetsToIgnore holds networks to which the pod connects without
	// the proxy.
	OutboundSubnetsToIgnore []string
	// IPv6 says whether IPv6 is programmed too.
	IPv6 bool
}

// Errors of [Build] that name a flag, worded as users know them.
var (
	ErrInboundProxyPort  = errors.New("--incoming-proxy-port must be a valid TCP port number")
	ErrOutboundProxyPort = errors.New("--outgoing-proxy-port must be a valid TCP port number")
)

// maxMultiport is how many port references one rule of the iptables multiport
// match can hold; a range counts twice. The same grouping is used for nftables
// so that the comments, by which operators find a rule, are the same.
const maxMultiport = 15

// Build makes the plan for the given options (proxy chapter, section 24.2). It
// fails on a bad proxy port, redirect port, id or network; a bad entry in a
// list of ignored ports only ends up in [Plan.Skipped].
func Build(o Options) (Plan, error) {
	inboundPort, err := port(o.InboundProxyPort)
	if err != nil {
		return Plan{}, ErrInboundProxyPort
	}
	outboundPort, err := port(o.OutboundProxyPort)
	if err != nil {
		return Plan{}, ErrOutboundProxyPort
	}
	redirect := make([]uint16, len(o.PortsToRedirect))
	for i, n := range o.PortsToRedirect {
		if redirect[i], err = port(n); err != nil {
			return Plan{}, fmt.Errorf("--ports-to-redirect: %w", err)
		}
	}
	uid, err := id(o.ProxyUID)
	if err != nil {
		return Plan{}, fmt.Errorf("--proxy-uid: %w", err)
	}
	gid, err := id(o.ProxyGID)
	if err != nil {
		return Plan{}, fmt.Errorf("--proxy-gid: %w", err)
	}
	from, err := subnets(o.SubnetsToIgnore)
	if err != nil {
		return Plan{}, err
	}
	to, err := subnets(o.OutboundSubnetsToIgnore)
	if err != nil {
		return Plan{}, err
	}

	var plan Plan
	inboundIgnored := plan.ports(o.InboundPortsToIgnore)
	outboundIgnored := plan.ports(o.OutboundPortsToIgnore)

	families := []Family{IPv4}
	if o.IPv6 {
		families = append(families, IPv6)
	}
	for _, family := range families {
		in := Chain{Name: ChainInbound, Hook: Prerouting, JumpComment: commentPrefix + "install-proxy-init-prerouting"}
		in.ignorePorts(inboundIgnored)
		for _, s := range from {
			if s.family == family {
				in.add(Match{Src: s.prefix}, Return, "ignore-subnet-"+s.text)
			}
		}
		if len(redirect) == 0 {
			in.add(Match{TCP: true}, Redirect(inboundPort), "redirect-all-incoming-to-proxy-port")
		}
		for _, p := range redirect {
			in.add(Match{TCP: true, DstPorts: []PortRange{{p, p}}}, Redirect(inboundPort),
				fmt.Sprintf("redirect-port-%d-to-proxy-port", p))
		}

		out := Chain{Name: ChainOutbound, Hook: Output, JumpComment: commentPrefix + "install-proxy-init-output"}
		// The proxy's own connections come first: were they redirected, the
		// proxy would talk to itself for ever.
		if uid > 0 {
			out.add(Match{UID: uid}, Return, "ignore-proxy-user-id")
		}
		if gid > 0 {
			out.add(Match{GID: gid}, Return, "ignore-proxy-group-id")
		}
		// Containers of one pod talk over loopback, and so does a container
		// that calls its own pod's address.
		out.add(Match{OutInterface: "lo"}, Return, "ignore-loopback")
		out.ignorePorts(outboundIgnored)
		for _, s := range to {
			if s.family == family {
				out.add(Match{Dst: s.prefix}, Return, "ignore-outbound-subnet-"+s.text)
			}
		}
		out.add(Match{TCP: true}, Redirect(outboundPort), "redirect-all-outgoing-to-proxy-port")

		plan.Families = append(plan.Families, FamilyPlan{Family: family, Chains: []Chain{in, out}})
	}
	return plan, nil
}

func (c *Chain) add(m Match, a Action, comment string) {
	c.Rules = append(c.Rules, Rule{Match: m, Action: a, Comment: commentPrefix + comment})
}

func (c *Chain) ignorePorts(ranges []PortRange) {
	for _, group := range groupPorts(ranges) {
		c.add(Match{TCP: true, DstPorts: group}, Return, "ignore-port-"+JoinPorts(group))
	}
}

// groupPorts cuts a list into pieces that each fit one multiport match,
// keeping the order.
func groupPorts(ranges []PortRange) [][]PortRange {
	var groups [][]PortRange
	var group []PortRange
	used := 0
	for _, r := range ranges {
		need := 2
		if r.Single() {
			need = 1
		}
		if used+need > maxMultiport {
			groups = append(groups, group)
			group, used = nil, 0
		}
		group = append(group, r)
		used += need
	}
	if len(group) > 0 {
		groups = append(groups, group)
	}
	return groups
}

// ports parses port entries; what cannot be parsed goes to p.Skipped.
func (p *Plan) ports(entries []string) []PortRange {
	var ranges []PortRange
	for _, entry := range entries {
		r, err := ParsePortRange(entry)
		if err != nil {
			p.Skipped = append(p.Skipped, err)
			continue
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// ParsePortRange reads "80" or "80-90". Blanks are not allowed anywhere.
func ParsePortRange(entry string) (PortRange, error) {
	first, last, isRange := strings.Cut(entry, "-")
	a, err := parsePort(first)
	if err != nil {
		return PortRange{}, fmt.Errorf("invalid port or port range %q: %w", entry, err)
	}
	if !isRange {
		return PortRange{a, a}, nil
	}
	b, err := parsePort(last)
	if err != nil {
		return PortRange{}, fmt.Errorf("invalid port or port range %q: %w", entry, err)
	}
	if b < a {
		return PortRange{}, fmt.Errorf("invalid port or port range %q: lower bound %d is above upper bound %d", entry, a, b)
	}
	return PortRange{a, b}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a valid TCP port number", s)
	}
	return uint16(n), nil
}

func port(n int) (uint16, error) {
	if n < 0 || n > math.MaxUint16 {
		return 0, fmt.Errorf("%d is not a valid TCP port number", n)
	}
	return uint16(n), nil
}

// id returns 0 for "no such user or group", which is what the flags' default
// of -1 means. Root is treated the same: section 24.1 asks for a rule only
// above 0, since exempting root would exempt many applications.
func id(n int) (uint32, error) {
	if n <= 0 {
		return 0, nil
	}
	// The highest value is the kernel's "no id".
	if int64(n) >= math.MaxUint32 {
		return 0, fmt.Errorf("%d is not a valid id", n)
	}
	return uint32(n), nil
}

// A subnet is a network that is left alone.
type subnet struct {
	text   string // as the user wrote it, for the comment
	prefix netip.Prefix
	family Family
}

// subnets parses networks in CIDR notation. Blanks around an entry are allowed.
func subnets(entries []string) ([]subnet, error) {
	var out []subnet
	for _, entry := range entries {
		text := strings.TrimSpace(entry)
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s is not a valid CIDR address", text)
		}
		if a := prefix.Addr(); a.Is4In6() && prefix.Bits() >= 96 {
			// An IPv4 network in IPv6 clothes: on the wire it is IPv4.
			prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
		}
		family := IPv6
		if prefix.Addr().Is4() {
			family = IPv4
		}
		out = append(out, subnet{text: text, prefix: prefix.Masked(), family: family})
	}
	return out, nil
}
