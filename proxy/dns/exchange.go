package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// udpSize is how large an answer over UDP may be, as DNS Flag Day 2020 has it:
// it fits into one packet everywhere.
const udpSize = 1232

// message is what there is of interest in an answer.
type message struct {
	code dnsmessage.RCode
	// truncated says that the rest has to be asked for over TCP.
	truncated bool
	records   []record
	// negative is how long "no such name" holds, if authoritative says that
	// somebody told.
	negative      time.Duration
	authoritative bool
}

// record is one of an answer: an address, the target of SRV, or something else
// of which only the time to live counts.
type record struct {
	ttl    time.Duration
	addr   netip.Addr
	target string
	port   uint16
}

// query asks one server once, over TCP if the answer does not fit otherwise.
func (c *config) query(ctx context.Context, server, name string, kind dnsmessage.Type) (*message, error) {
	addr := net.JoinHostPort(server, c.port)
	m, err := exchange(ctx, "udp", addr, c.timeout, name, kind)
	if err == nil && m.truncated {
		m, err = exchange(ctx, "tcp", addr, c.timeout, name, kind)
	}
	return m, err
}

// exchange sends one question and waits for its answer.
func exchange(ctx context.Context, network, addr string, timeout time.Duration, name string, kind dnsmessage.Type) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	id := uint16(rand.Uint32())
	q, err := question(id, name, kind)
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// A past deadline ends what waits when ctx is done, by whichever way.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "udp" {
		return overUDP(conn, q, id, name, kind)
	}
	return overTCP(conn, q, id, name, kind)
}

func overUDP(conn net.Conn, q []byte, id uint16, name string, kind dnsmessage.Type) (*message, error) {
	if _, err := conn.Write(q[2:]); err != nil {
		return nil, err
	}
	buf := make([]byte, udpSize)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		// What is not the answer may be an earlier one that was late, or
		// somebody's guess.
		if m, err := parse(buf[:n], id, name, kind); !errors.Is(err, errOther) {
			return m, err
		}
	}
}

func overTCP(conn net.Conn, q []byte, id uint16, name string, kind dnsmessage.Type) (*message, error) {
	if _, err := conn.Write(q); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	return parse(buf, id, name, kind)
}

// question is a query with its length in front, as TCP wants it.
func question(id uint16, name string, kind dnsmessage.Type) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(make([]byte, 2, 128), dnsmessage.Header{ID: id, RecursionDesired: true})
	var edns dnsmessage.ResourceHeader
	err = errors.Join(
		b.StartQuestions(),
		b.Question(dnsmessage.Question{Name: n, Type: kind, Class: dnsmessage.ClassINET}),
		b.StartAdditionals(),
		edns.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false),
		b.OPTResource(edns, dnsmessage.OPTResource{}),
	)
	if err != nil {
		return nil, err
	}
	msg, err := b.Finish()
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(msg, uint16(len(msg)-2))
	return msg, nil
}

// errOther: a message answers another question.
var errOther = errors.New("answer to another question")

// parse reads an answer. It is errOther unless it is one to this question.
func parse(b []byte, id uint16, name string, kind dnsmessage.Type) (*message, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || !h.Response || h.ID != id {
		return nil, errOther
	}
	q, err := p.Question()
	if err != nil || q.Type != kind || q.Class != dnsmessage.ClassINET || !equalFold(q.Name.String(), name) {
		return nil, errOther
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	m := &message{code: h.RCode, truncated: h.Truncated}
	if h.Truncated {
		// The rest is asked for again; this part may end anywhere.
		return m, nil
	}
	if m.records, err = answers(&p); err != nil {
		return nil, err
	}
	m.negative, m.authoritative, err = authority(&p)
	return m, err
}

func answers(p *dnsmessage.Parser) (out []record, err error) {
	for {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		r := record{ttl: time.Duration(h.TTL) * time.Second}
		switch h.Type {
		case dnsmessage.TypeA:
			a, err := p.AResource()
			if err != nil {
				return nil, err
			}
			r.addr = netip.AddrFrom4(a.A)
		case dnsmessage.TypeAAAA:
			a, err := p.AAAAResource()
			if err != nil {
				return nil, err
			}
			r.addr = netip.AddrFrom16(a.AAAA).Unmap()
		case dnsmessage.TypeSRV:
			s, err := p.SRVResource()
			if err != nil {
				return nil, err
			}
			r.target, r.port = s.Target.String(), s.Port
		default:
			if err := p.SkipAnswer(); err != nil {
				return nil, err
			}
		}
		out = append(out, r)
	}
}

// authority reads how long "no such name" holds (RFC 2308, section 5).
func authority(p *dnsmessage.Parser) (ttl time.Duration, ok bool, err error) {
	for {
		h, err := p.AuthorityHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return ttl, ok, nil
		}
		if err != nil {
			return 0, false, err
		}
		if h.Type != dnsmessage.TypeSOA || ok {
			if err := p.SkipAuthority(); err != nil {
				return 0, false, err
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			return 0, false, err
		}
		ttl, ok = time.Duration(min(h.TTL, soa.MinTTL))*time.Second, true
	}
}

// equalFold compares names as DNS does: ASCII, without case.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

// codeName is a response code as it is written everywhere.
func codeName(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return fmt.Sprintf("RCODE%d", uint16(c))
}
