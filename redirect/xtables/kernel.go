package xtables

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// Errors by which callers tell what is wrong with the place they run in.
var (
	// ErrPermission: the process may not change the firewall.
	ErrPermission = errors.New("the NET_ADMIN capability is missing")
	// ErrUnsupported: the kernel has no legacy tables, or not the parts that
	// redirection needs.
	ErrUnsupported = errors.New("the kernel does not support legacy iptables NAT (modules ip_tables, iptable_nat, xt_REDIRECT, xt_owner, xt_multiport, xt_comment and their IPv6 counterparts)")
)

// Socket options, the same numbers for both families.
const (
	optGetInfo    = 64
	optGetEntries = 65
	optReplace    = 64
)

// Offsets in what goes with the options.
const (
	nameLen = 32

	infoValidHooks = 32
	infoHookEntry  = 36
	infoUnderflow  = 56
	infoCount      = 76
	infoSize       = 80
	infoLen        = 84

	getSize    = 32
	getEntries = 40

	replaceValidHooks  = 32
	replaceCount       = 36
	replaceSize        = 40
	replaceHookEntry   = 44
	replaceUnderflow   = 64
	replaceOldCount    = 84
	replaceCounters    = 88
	replaceEntries     = 96
	counterLen         = 16
	maxReplaceAttempts = 10
)

const natTable = "nat"

// A socket gives access to the nat table of one family.
type socket struct {
	fd     int
	layout *layout
}

// open opens a socket in the calling thread's network namespace.
func open(f rules.Family) (*socket, error) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		// Pointers and paddings in the structures would be others.
		return nil, fmt.Errorf("%w: this is a 32-bit program", ErrUnsupported)
	}
	l := layoutOf(f)
	fd, err := unix.Socket(l.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", explain(err))
	}
	return &socket{fd: fd, layout: l}, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// read fetches the table.
func (s *socket) read() (blob, error) {
	var b blob
	// The table may grow between the two questions; then the kernel says so.
	for range maxReplaceAttempts {
		info := make([]byte, infoLen)
		copy(info[:nameLen], natTable)
		if err := s.get(optGetInfo, info); err != nil {
			return blob{}, fmt.Errorf("get table info: %w", explain(err))
		}
		b.validHooks = native.Uint32(info[infoValidHooks:])
		for h := range hooks {
			b.hookEntry[h] = native.Uint32(info[infoHookEntry+4*h:])
			b.underflow[h] = native.Uint32(info[infoUnderflow+4*h:])
		}
		b.count = native.Uint32(info[infoCount:])
		size := native.Uint32(info[infoSize:])

		buf := make([]byte, getEntries+int(size))
		copy(buf[:nameLen], natTable)
		native.PutUint32(buf[getSize:], size)
		err := s.get(optGetEntries, buf)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return blob{}, fmt.Errorf("get table entries: %w", explain(err))
		}
		b.entries = buf[getEntries:]
		return b, nil
	}
	return blob{}, errors.New("get table entries: the table keeps changing")
}

// replace hands a table to the kernel. oldCount is how many entries the table
// had when it was read; the kernel answers EAGAIN if it has another number now.
func (s *socket) replace(b blob, oldCount uint32) error {
	buf := make([]byte, replaceEntries+len(b.entries))
	copy(buf[:nameLen], natTable)
	native.PutUint32(buf[replaceValidHooks:], b.validHooks)
	native.PutUint32(buf[replaceCount:], b.count)
	native.PutUint32(buf[replaceSize:], uint32(len(b.entries)))
	for h := range hooks {
		native.PutUint32(buf[replaceHookEntry+4*h:], b.hookEntry[h])
		native.PutUint32(buf[replaceUnderflow+4*h:], b.underflow[h])
	}
	native.PutUint32(buf[replaceOldCount:], oldCount)
	copy(buf[replaceEntries:], b.entries)

	// The kernel writes the old entries' counters to memory of ours. The
	// pointer to it is hidden in bytes, so the memory must neither move nor be
	// freed before the call returns.
	counters := make([]byte, counterLen*int(oldCount)+1)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&counters[0])
	native.PutUint64(buf[replaceCounters:], uint64(uintptr(unsafe.Pointer(&counters[0]))))

	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), uintptr(s.layout.level), optReplace,
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *socket) get(option int, buf []byte) error {
	n := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(s.layout.level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// update reads the table, lets change change it, and writes it back unless
// change says that there is nothing to do.
func update(f rules.Family, change func(*table) (bool, error)) error {
	s, err := open(f)
	if err != nil {
		return err
	}
	defer s.close()
	for range maxReplaceAttempts {
		old, err := s.read()
		if err != nil {
			return err
		}
		t, err := parse(s.layout, old)
		if err != nil {
			return err
		}
		changed, err := change(t)
		if err != nil || !changed {
			return err
		}
		err = s.replace(t.encode(), old.count)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("replace table: %w", explain(err))
		}
	}
	return errors.New("replace table: the table keeps changing")
}

// Apply makes the rules of the plan those of the calling thread's network
// namespace, replacing those of an earlier Apply. Each family is changed in one
// step; if the second fails, the first is already in place.
func Apply(plan rules.Plan) error {
	covered := map[rules.Family]bool{}
	for _, f := range plan.Families {
		covered[f.Family] = true
		err := update(f.Family, func(t *table) (bool, error) { return true, t.put(f) })
		if err != nil {
			return fmt.Errorf("apply %s rules: %w", f.Family, err)
		}
	}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if !covered[f] {
			if err := remove(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove deletes everything that Apply put into the calling thread's network
// namespace. It is no error when there is nothing.
func Remove() error {
	return errors.Join(remove(rules.IPv4), remove(rules.IPv6))
}

func remove(f rules.Family) error {
	err := update(f, func(t *table) (bool, error) { return t.take(), nil })
	if errors.Is(err, ErrUnsupported) {
		// Without tables there are no rules in them.
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s rules: %w", f, err)
	}
	return nil
}

// An InstalledRule is a rule that the kernel holds.
type InstalledRule struct {
	Family  rules.Family
	Chain   string // the hook's name for a jump
	Comment string
}

// Installed lists our rules in the calling thread's network namespace: for
// each family the jumps, then the rules of the chains.
func Installed() ([]InstalledRule, error) {
	var out []InstalledRule
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		found, err := installed(f)
		if err != nil {
			return nil, fmt.Errorf("list %s rules: %w", f, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func installed(f rules.Family) ([]InstalledRule, error) {
	s, err := open(f)
	if err != nil {
		return nil, err
	}
	defer s.close()
	b, err := s.read()
	if errors.Is(err, ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := parse(s.layout, b)
	if err != nil {
		return nil, err
	}
	var out []InstalledRule
	for _, hook := range []rules.Hook{rules.Prerouting, rules.Output} {
		base := t.base[hookNumber(hook)]
		if base == nil {
			continue
		}
		for _, e := range base.entries {
			if e.jump != nil && (e.jump.name == rules.ChainInbound || e.jump.name == rules.ChainOutbound) {
				out = append(out, InstalledRule{f, hook.String(), s.layout.comment(e.raw)})
			}
		}
	}
	for _, name := range []string{rules.ChainInbound, rules.ChainOutbound} {
		if c := t.find(name); c != nil {
			for _, e := range c.entries[:len(c.entries)-1] {
				out = append(out, InstalledRule{f, name, s.layout.comment(e.raw)})
			}
		}
	}
	return out, nil
}

// explain adds what an operator can do about an error of the kernel.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		// In this order: no ip_tables, no nat table or no such extension, no
		// such family.
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}
