// Package filter chooses packets by a small expression.
//
//	f, err := filter.Parse("tcp and (port 80 or port 8000-8100) and not host 10.0.0.0/8")
//	if f.Match(p, filter.In, "eth0") { ... }
//
// The words are in [Help]. Parsing and matching have no side effects; a [Filter] may be used from any goroutine.
package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/debug/packet"
)

// Help explains the expressions to users.
const Help = `  tcp, udp, icmp, ip6        by protocol
  host ADDRESS[/BITS]        to or from the address or network; "src host" and "dst host" for one end
  port N[-M]                 to or from the port or range; "src port" and "dst port" for one end
  in, out, local             by direction; local is what stays in the pod
  on LINK                    on the interface, such as eth0 or lo
  payload                    what carries data, so neither handshakes nor mere acknowledgements
  not X, X and Y, X or Y     combined, "and" before "or", with parentheses if need be
`

// A Direction is where a packet goes, seen from the pod.
type Direction string

// The directions, as they are printed.
const (
	In    Direction = "in"
	Out   Direction = "out"
	Local Direction = "local"
)

// A Filter chooses packets. The zero Filter takes all.
type Filter struct {
	match func(*subject) bool
}

type subject struct {
	packet.Packet
	direction Direction
	link      string
}

// Match says whether a packet is chosen.
func (f Filter) Match(p packet.Packet, d Direction, link string) bool {
	return f.match == nil || f.match(&subject{p, d, link})
}

// All says that every packet is chosen.
func (f Filter) All() bool { return f.match == nil }

// Parse reads an expression; an empty one takes all packets. The error names the word that is wrong.
func Parse(expression string) (Filter, error) {
	p := parser{words: strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(expression))}
	if len(p.words) == 0 {
		return Filter{}, nil
	}
	m, err := p.or()
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("unexpected %q", p.words[0])
	}
	if err != nil {
		return Filter{}, fmt.Errorf("filter %q: %w", expression, err)
	}
	return Filter{m}, nil
}

type matcher = func(*subject) bool

type parser struct{ words []string }

func (p *parser) next(what string) (string, error) {
	if len(p.words) == 0 {
		return "", fmt.Errorf("%s is missing at its end", what)
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w, nil
}

func (p *parser) accept(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *parser) or() (matcher, error) {
	left, err := p.and()
	for err == nil && p.accept("or") {
		var right matcher
		a := left
		right, err = p.and()
		left = func(s *subject) bool { return a(s) || right(s) }
	}
	return left, err
}

func (p *parser) and() (matcher, error) {
	left, err := p.one()
	for err == nil && p.accept("and") {
		var right matcher
		a := left
		right, err = p.one()
		left = func(s *subject) bool { return a(s) && right(s) }
	}
	return left, err
}

func (p *parser) one() (matcher, error) {
	word, err := p.next("a condition")
	if err != nil {
		return nil, err
	}
	switch word {
	case "not":
		m, err := p.one()
		return func(s *subject) bool { return !m(s) }, err
	case "(":
		m, err := p.or()
		if err == nil && !p.accept(")") {
			err = fmt.Errorf("a parenthesis is not closed")
		}
		return m, err
	case "tcp", "udp":
		return func(s *subject) bool { return s.Protocol == word }, nil
	case "icmp":
		return func(s *subject) bool { return s.Protocol == "icmp" || s.Protocol == "icmp6" }, nil
	case "ip6":
		return func(s *subject) bool { return s.Src.Is6() }, nil
	case "in", "out", "local":
		return func(s *subject) bool { return s.direction == Direction(word) }, nil
	case "on":
		link, err := p.next("an interface")
		return func(s *subject) bool { return s.link == link }, err
	case "payload":
		return func(s *subject) bool { return s.Length > 0 }, nil
	case "src", "dst":
		kind, err := p.next(`"host" or "port"`)
		if err != nil {
			return nil, err
		}
		return p.end(kind, word == "src", word == "dst")
	case "host", "port":
		return p.end(word, true, true)
	}
	return nil, fmt.Errorf("unknown condition %q", word)
}

// end is a condition about either end, or one of them.
func (p *parser) end(kind string, src, dst bool) (matcher, error) {
	switch kind {
	case "host":
		word, err := p.next("an address")
		if err != nil {
			return nil, err
		}
		n, err := network(word)
		if err != nil {
			return nil, err
		}
		return func(s *subject) bool { return src && n.Contains(s.Src) || dst && n.Contains(s.Dst) }, nil
	case "port":
		word, err := p.next("a port")
		if err != nil {
			return nil, err
		}
		low, high, ranged := strings.Cut(word, "-")
		if !ranged {
			high = low
		}
		from, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("not a port: %q", word)
		}
		to, err := strconv.ParseUint(high, 10, 16)
		if err != nil || to < from || from == 0 {
			return nil, fmt.Errorf("not a port: %q", word)
		}
		within := func(port uint16) bool { return uint64(port) >= from && uint64(port) <= to }
		return func(s *subject) bool { return src && within(s.SrcPort) || dst && within(s.DstPort) }, nil
	}
	return nil, fmt.Errorf(`"host" or "port" is wanted, not %q`, kind)
}

func network(word string) (netip.Prefix, error) {
	if strings.Contains(word, "/") {
		n, err := netip.ParsePrefix(word)
		if err != nil {
			return n, fmt.Errorf("not a network: %q", word)
		}
		return n, nil
	}
	a, err := netip.ParseAddr(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("not an address: %q", word)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
