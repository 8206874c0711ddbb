package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The value grammars of the proxy chapter, section 2.1.

var (
	errDuration = errors.New("not a valid duration")
	errNumber   = errors.New("not a valid number")
	errShare    = errors.New("not a number from 0 to 1")
	errBool     = errors.New("not a valid boolean")
	errAddr     = errors.New("not a valid socket address")
	errHostPort = errors.New("not a valid host and port")
	errPorts    = errors.New("not a valid port range")
	errNetwork  = errors.New("not a valid network")
	errIP       = errors.New("not a valid IP address")
	errSuffix   = errors.New("not a valid domain suffix")
)

// units are the suffixes of durations, longest first.
var units = []struct {
	suffix string
	unit   time.Duration
}{
	{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour},
}

// Duration parses digits followed by ms, s, m, h or d; only "0" needs no unit.
func Duration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	digits := 0
	for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	if err != nil {
		return 0, errDuration
	}
	if s[digits:] == "" && n == 0 {
		return 0, nil
	}
	for _, u := range units {
		if s[digits:] == u.suffix {
			if n > math.MaxInt64/int64(u.unit) {
				return 0, errDuration
			}
			return time.Duration(n) * u.unit, nil
		}
	}
	return 0, errDuration
}

// Bool accepts exactly true and false.
func Bool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errBool
}

func number(bits int) func(string) (uint64, error) {
	return func(s string) (uint64, error) {
		n, err := strconv.ParseUint(s, 10, bits)
		if err != nil {
			return 0, errNumber
		}
		return n, nil
	}
}

func fraction(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, errNumber
	}
	return f, nil
}

// share parses a part of a whole, from 0 to 1.
func share(s string) (float64, error) {
	f, err := fraction(s)
	if err != nil || f < 0 || f > 1 {
		return 0, errShare
	}
	return f, nil
}

// AddrPort parses a listener's address; names are not accepted.
func AddrPort(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, errAddr
	}
	return a, nil
}

func addrPorts(s string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		a, err := AddrPort(item)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if len(out) > 2 {
		return nil, errors.New("too many addresses: at most two are supported")
	}
	if len(out) == 0 {
		return nil, errAddr
	}
	return out, nil
}

// HostPort is a name or an IP address, and a port.
type HostPort struct {
	Host string
	Port uint16
}

// String gives host:port, with brackets around IPv6 addresses.
func (h HostPort) String() string {
	if strings.Contains(h.Host, ":") {
		return "[" + h.Host + "]:" + strconv.Itoa(int(h.Port))
	}
	return h.Host + ":" + strconv.Itoa(int(h.Port))
}

// Loopback reports whether a client on this machine is all that can reach the
// address, so that it needs no TLS: 127.0.0.0/8, ::1 and the name "localhost."
// with its dot.
func (h HostPort) Loopback() bool {
	if h.Host == "localhost." {
		return true
	}
	ip, err := netip.ParseAddr(h.Host)
	return err == nil && ip.IsLoopback()
}

func hostPort(s string) (HostPort, error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return HostPort{}, errHostPort
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil {
		return HostPort{}, errHostPort
	}
	host := s[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
		if _, err := netip.ParseAddr(host); err != nil {
			return HostPort{}, errHostPort
		}
	} else if strings.ContainsAny(host, ":/[] ") {
		return HostPort{}, errHostPort
	}
	return HostPort{host, uint16(port)}, nil
}

// PortRange is an inclusive range of ports.
type PortRange struct{ First, Last uint16 }

// PortSet is a set of ports, as the ranges that were given.
type PortSet []PortRange

// Contains reports whether port is in the set.
func (s PortSet) Contains(port uint16) bool {
	for _, r := range s {
		if r.First <= port && port <= r.Last {
			return true
		}
	}
	return false
}

// Each calls f for every port of the set.
func (s PortSet) Each(f func(uint16)) {
	for _, r := range s {
		for p := int(r.First); p <= int(r.Last); p++ {
			f(uint16(p))
		}
	}
}

func portSet(s string) (PortSet, error) {
	var out PortSet
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
		if err != nil {
			return nil, errPorts
		}
		b, err := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
		if err != nil || b < a {
			return nil, errPorts
		}
		out = append(out, PortRange{uint16(a), uint16(b)})
	}
	return out, nil
}

func networks(s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		p, err := netip.ParsePrefix(item)
		if err != nil {
			return nil, errNetwork
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func ipSet(s string) ([]netip.Addr, error) {
	if s == "" {
		return nil, nil
	}
	var out []netip.Addr
	for item := range strings.SplitSeq(s, ",") {
		ip, err := netip.ParseAddr(item)
		if err != nil {
			return nil, errIP
		}
		out = append(out, ip.Unmap())
	}
	return out, nil
}

// Suffixes is a list of DNS suffixes, lower case; "." matches every name.
type Suffixes []string

// Match reports whether name is, or is below, one of the suffixes. Trailing
// dots do not count.
func (s Suffixes) Match(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, suffix := range s {
		if suffix == "." {
			return true
		}
		suffix = strings.TrimSuffix(suffix, ".")
		if name == suffix || strings.HasSuffix(name, suffix) && name[len(name)-len(suffix)-1] == '.' {
			return true
		}
	}
	return false
}

func suffixes(s string) (Suffixes, error) {
	var out Suffixes
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.ToLower(strings.TrimSpace(item)); item == "" {
			continue
		}
		if item != "." {
			for label := range strings.SplitSeq(strings.TrimSuffix(item, "."), ".") {
				if label == "" || len(label) > 63 || strings.ContainsAny(label, " /:*") {
					return nil, errSuffix
				}
			}
		}
		out = append(out, item)
	}
	return out, nil
}

// errTrustDomain is why trust domains are refused. Source: SPIFFE-ID, section 2.1.
var errTrustDomain = errors.New("not a list of trust domains")

func trustDomains(s string) ([]string, error) {
	var out []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		if strings.Trim(item, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" || len(item) > 255 {
			return nil, errTrustDomain
		}
		out = append(out, item)
	}
	return out, nil
}

func text(s string) (string, error) { return s, nil }

func nonEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("must not be empty")
	}
	return s, nil
}

// orEmpty takes an empty value as well, as what is not set.
func orEmpty(parse func(string) (string, error)) func(string) (string, error) {
	return func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		return parse(s)
	}
}

// oneOf makes a parser of exact words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		for _, w := range words {
			if s == w {
				return s, nil
			}
		}
		return "", fmt.Errorf("expected one of %s", strings.Join(words, ", "))
	}
}
