package xtables

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// hooks is how many hooks the kernel has; a table uses some of them.
const hooks = 5

// hookNumber is the kernel's number of a hook.
func hookNumber(h rules.Hook) int {
	if h == rules.Prerouting {
		return 0
	}
	return 3
}

// A blob is a table as the kernel passes it: entries one after the other, and
// for each hook the offset of its first entry and of its policy.
type blob struct {
	validHooks uint32
	hookEntry  [hooks]uint32
	underflow  [hooks]uint32
	entries    []byte
	count      uint32 // number of entries
}

// A table is a blob taken apart.
type table struct {
	layout     *layout
	validHooks uint32
	// base holds the chains of the hooks, nil where the table has none. The
	// last entry of each is its policy.
	base [hooks]*chain
	// user holds the other chains in order.
	user []*chain
}

// A chain is a list of entries. In a user's chain the last entry returns.
type chain struct {
	name    string // of a user's chain
	entries []entry
}

// An entry is one rule.
type entry struct {
	raw []byte
	// jump is the chain that a standard target leads to, nil for other
	// targets. Its place in raw is filled in by encode.
	jump *chain
	// next says that a standard target leads to the next entry, that is, that
	// the rule only counts.
	next bool
}

// errBlob means that the kernel's answer does not have the known layout. It
// cannot happen as long as the kernel keeps its promise not to break programs,
// but writing back what was not understood could cut off a pod.
var errBlob = errors.New("the kernel's table has an unknown layout")

// parse takes a blob apart.
func parse(l *layout, b blob) (*table, error) {
	t := &table{layout: l, validHooks: b.validHooks}

	// First pass: cut the bytes into entries and chains. A chain begins at a
	// hook's first entry or behind an error target that names it; the entry
	// that ends the table is an error target with nothing behind it.
	starts := map[int]*chain{} // by the offset of the chain's first entry
	offsets := map[int]bool{}  // of all entries
	var current *chain
	var userChains []*chain
	for off := 0; off < len(b.entries); {
		rest := b.entries[off:]
		if len(rest) < l.header {
			return nil, fmt.Errorf("%w: %d bytes are left at offset %d", errBlob, len(rest), off)
		}
		size := int(native.Uint16(rest[l.nextOffset:]))
		target := int(native.Uint16(rest[l.targetOffset:]))
		if target < l.header || size < target+extHeader || size > len(rest) {
			return nil, fmt.Errorf("%w: entry of %d bytes with its target at %d, at offset %d", errBlob, size, target, off)
		}
		raw := rest[:size]
		offsets[off] = true
		for h := range hooks {
			if b.validHooks&(1<<h) != 0 && int(b.hookEntry[h]) == off {
				current = &chain{}
				t.base[h] = current
				starts[off] = current
			}
		}
		if name, ok := errorName(raw[target:]); ok {
			if off+size == len(b.entries) {
				break
			}
			current = &chain{name: name}
			userChains = append(userChains, current)
			starts[off+size] = current
		} else {
			if current == nil {
				return nil, fmt.Errorf("%w: an entry belongs to no chain, at offset %d", errBlob, off)
			}
			current.entries = append(current.entries, entry{raw: bytes.Clone(raw)})
		}
		off += size
	}
	t.user = userChains

	// Second pass: turn offsets of jumps into chains.
	off := map[*chain]int{}
	for start, c := range starts {
		off[c] = start
	}
	for _, c := range t.chains() {
		at := off[c]
		for i := range c.entries {
			e := &c.entries[i]
			if verdict, ok := l.verdict(e.raw); ok && verdict >= 0 {
				switch to := starts[int(verdict)]; {
				case int(verdict) == at+len(e.raw):
					e.next = true
				case to != nil:
					e.jump = to
				default:
					return nil, fmt.Errorf("%w: a jump to offset %d, where no chain begins", errBlob, verdict)
				}
			}
			at += len(e.raw)
		}
	}
	for h, c := range t.base {
		if b.validHooks&(1<<h) != 0 && (c == nil || len(c.entries) == 0) {
			return nil, fmt.Errorf("%w: hook %d has no entries", errBlob, h)
		}
	}
	return t, nil
}

// errorName returns the payload of an error target.
func errorName(target []byte) (string, bool) {
	if extensionName(target) != "ERROR" || len(target) < errorSize {
		return "", false
	}
	return cString(target[extHeader : extHeader+errorNameLen]), true
}

func extensionName(b []byte) string { return cString(b[extName : extName+extNameLen]) }

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// verdict returns the payload of a standard target: an offset to go on at, or
// a negative code.
func (l *layout) verdict(raw []byte) (int32, bool) {
	target := raw[native.Uint16(raw[l.targetOffset:]):]
	if extensionName(target) != "" || len(target) < standardSize {
		return 0, false
	}
	return int32(native.Uint32(target[extHeader:])), true
}

// chains lists all chains in the order in which encode writes them.
func (t *table) chains() []*chain {
	var out []*chain
	for _, c := range t.base {
		if c != nil {
			out = append(out, c)
		}
	}
	return append(out, t.user...)
}

// encode puts the table together again.
func (t *table) encode() blob {
	l := t.layout
	// First pass: find out where each chain's first entry will be.
	starts := map[*chain]int{}
	at := 0
	header := len(l.plainEntry(errorTarget("")))
	for _, c := range t.chains() {
		if c.name != "" {
			at += header
		}
		starts[c] = at
		for _, e := range c.entries {
			at += len(e.raw)
		}
	}

	// Second pass: write.
	b := blob{validHooks: t.validHooks}
	add := func(raw []byte) {
		b.entries = append(b.entries, raw...)
		b.count++
	}
	for _, c := range t.chains() {
		if h := slices.Index(t.base[:], c); h >= 0 {
			b.hookEntry[h] = uint32(len(b.entries))
		} else {
			add(l.plainEntry(errorTarget(c.name)))
		}
		for i, e := range c.entries {
			if h := slices.Index(t.base[:], c); h >= 0 && i == len(c.entries)-1 {
				b.underflow[h] = uint32(len(b.entries))
			}
			raw := bytes.Clone(e.raw)
			verdict := raw[int(native.Uint16(raw[l.targetOffset:]))+extHeader:]
			switch {
			case e.jump != nil:
				native.PutUint32(verdict, uint32(starts[e.jump]))
			case e.next:
				native.PutUint32(verdict, uint32(len(b.entries)+len(raw)))
			}
			add(raw)
		}
	}
	add(l.plainEntry(errorTarget("ERROR")))
	return b
}

// find returns the user's chain of a name, or nil.
func (t *table) find(name string) *chain {
	for _, c := range t.user {
		if c.name == name {
			return c
		}
	}
	return nil
}

// put makes the chains of the plan those of the table. Chains and jumps that
// exist keep their place.
func (t *table) put(f rules.FamilyPlan) error {
	l := t.layout
	for _, planned := range f.Chains {
		base := t.base[hookNumber(planned.Hook)]
		if base == nil {
			return fmt.Errorf("%w: the nat table has no hook %s", errBlob, planned.Hook)
		}
		c := t.find(planned.Name)
		if c == nil {
			c = &chain{name: planned.Name}
			t.user = append(t.user, c)
		}
		c.entries = nil
		for _, r := range planned.Rules {
			c.entries = append(c.entries, entry{raw: l.ruleEntry(r)})
		}
		c.entries = append(c.entries, entry{raw: l.plainEntry(standardTarget(verdictReturn))})

		if !slices.ContainsFunc(base.entries, func(e entry) bool { return e.jump == c }) {
			raw := l.newEntry(make([]byte, l.header), [][]byte{commentMatch(planned.JumpComment)}, standardTarget(0))
			policy := len(base.entries) - 1
			base.entries = slices.Insert(base.entries, policy, entry{raw: raw, jump: c})
		}
	}
	return nil
}

// take removes our chains and all jumps to them. It reports whether there was
// anything to remove.
func (t *table) take() bool {
	changed := false
	for _, name := range []string{rules.ChainInbound, rules.ChainOutbound} {
		ours := t.find(name)
		if ours == nil {
			continue
		}
		changed = true
		t.user = slices.DeleteFunc(t.user, func(c *chain) bool { return c == ours })
		for _, c := range t.chains() {
			c.entries = slices.DeleteFunc(c.entries, func(e entry) bool { return e.jump == ours })
		}
	}
	return changed
}

// comment returns the comment of an entry.
func (l *layout) comment(raw []byte) string {
	target := int(native.Uint16(raw[l.targetOffset:]))
	for off := l.header; off+extHeader <= target; {
		size := int(native.Uint16(raw[off:]))
		if size < extHeader || off+size > target {
			break
		}
		if extensionName(raw[off:]) == "comment" {
			return cString(raw[off+extHeader : off+size])
		}
		off += size
	}
	return ""
}
