package hpack

import (
	"bytes"
	"hash/maphash"
)

// Encoder encodes the header blocks of one direction of a connection. Strings
// are written plain: between proxies on a fast network the Huffman code costs
// more than it saves.
//
// A field goes into the dynamic table when it is sent for the second time, so
// that values which never come again do not push out those that do.
type Encoder struct {
	t       table
	started bool
	// update says that a size update has to be sent, lowest being the
	// smallest size since the last (RFC 7541, section 4.2).
	update bool
	lowest uint32
	index  []uint64 // by hash of the field: number of the entry + 1
	names  []uint64 // by hash of the name: likewise
	seen   []uint32 // by hash: the upper half of the hash of a field sent once
	lower  []byte
	last   uint64 // number + 1 of the entry that was sent last
}

const (
	indexSize = 256
	seenSize  = 512
)

var seed = maphash.MakeSeed()

func (e *Encoder) start() {
	if !e.started {
		e.started = true
		e.t.max = DefaultTableSize
	}
}

// SetMaxTableSize follows the peer's SETTINGS_HEADER_TABLE_SIZE. More than
// DefaultTableSize is not used.
func (e *Encoder) SetMaxTableSize(n uint32) {
	e.start()
	n = min(n, DefaultTableSize)
	if n == e.t.max {
		return
	}
	if !e.update || n < e.lowest {
		e.lowest = n
	}
	e.update = true
	e.t.resize(n)
}

// Begin starts a block.
func (e *Encoder) Begin(dst []byte) []byte {
	e.start()
	if e.update {
		e.update = false
		if e.lowest < e.t.max {
			dst = appendInteger(dst, 0x20, 5, uint64(e.lowest))
		}
		dst = appendInteger(dst, 0x20, 5, uint64(e.t.max))
	}
	return dst
}

// AppendIndexed appends an entry of the static table.
func AppendIndexed(dst []byte, index int) []byte { return append(dst, 0x80|byte(index)) }

// staticNames finds a name in the static table: index by hash, found by linear
// probing.
var staticNames [256]uint8

func nameHash(name []byte) uint {
	n := len(name)
	return uint(n)*31 + uint(name[0]|0x20) + uint(name[n-1]|0x20)*7 + uint(name[n/2]|0x20)*5
}

func init() {
	for i := 1; i < len(staticBytes); i++ {
		if i > 1 && statics[i].name == statics[i-1].name {
			continue
		}
		h := nameHash(staticBytes[i].name)
		for staticNames[h%256] != 0 {
			h++
		}
		staticNames[h%256] = uint8(i)
	}
}

func staticName(name []byte) int {
	for h := nameHash(name); ; h++ {
		i := staticNames[h%256]
		if i == 0 {
			return 0
		}
		if string(name) == statics[i].name {
			return int(i)
		}
	}
}

// Append appends one field to a block. The name is written in lower case and
// must not be empty.
func (e *Encoder) Append(dst, name, value []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			name = e.toLower(name)
			break
		}
	}
	// Messages are alike, so an entry is mostly sent after the one that it was sent
	// after before: to compare the field with that takes less than to look it up.
	if e.last > e.t.first {
		if n := e.t.at(e.last - 1).follower; n > e.t.first && e.is(n, name, value) {
			e.last = n
			return appendInteger(dst, 0x80, 7, e.position(n-1))
		}
	}
	static := staticName(name)
	if sensitive(static) {
		return appendLiteral(dst, 0x10, 4, uint64(static), name, value)
	}
	size := len(name) + len(value) + overhead
	if uint32(size) > e.t.max/2 {
		return appendLiteral(dst, 0, 4, uint64(static), name, value)
	}
	nh := maphash.Bytes(seed, name)
	h := (nh<<5 | nh>>59) ^ maphash.Bytes(seed, value)
	if e.index == nil {
		e.index = make([]uint64, indexSize)
		e.names = make([]uint64, indexSize)
		e.seen = make([]uint32, seenSize)
	}
	slot := &e.index[h%indexSize]
	if n := *slot; n > e.t.first && e.t.at(n-1).hash == h && e.is(n, name, value) {
		e.sent(n)
		return appendInteger(dst, 0x80, 7, e.position(n-1))
	}
	nameIndex := uint64(static)
	if static == 0 {
		if n := e.names[nh%indexSize]; n > e.t.first {
			if en, _ := e.t.bytes(e.t.at(n - 1)); bytes.Equal(en, name) {
				nameIndex = e.position(n - 1)
			}
		}
	}
	if s := &e.seen[h>>9%seenSize]; *s != uint32(h>>32) {
		*s = uint32(h >> 32)
		return appendLiteral(dst, 0, 4, nameIndex, name, value)
	}
	dst = appendLiteral(dst, 0x40, 6, nameIndex, name, value)
	if ent, ok := e.t.add(name, value); ok {
		ent.hash = h
		*slot = e.t.next
		e.names[nh%indexSize] = e.t.next
		e.sent(e.t.next)
	}
	return dst
}

// is reports whether entry number n-1 is this field.
func (e *Encoder) is(n uint64, name, value []byte) bool {
	en, ev := e.t.bytes(e.t.at(n - 1))
	return bytes.Equal(en, name) && bytes.Equal(ev, value)
}

// sent notes that entry number n-1 was sent, and after which one.
func (e *Encoder) sent(n uint64) {
	if e.last > e.t.first {
		e.t.at(e.last - 1).follower = n
	}
	e.last = n
}

// position is the index of the entry with the given number.
func (e *Encoder) position(n uint64) uint64 {
	return uint64(len(staticBytes)) + e.t.next - 1 - n
}

// sensitive says that a field must not be put into any table, where its value
// could be found by guessing: authorization, proxy-authorization.
func sensitive(static int) bool { return static == 23 || static == 49 }

func (e *Encoder) toLower(name []byte) []byte {
	e.lower = append(e.lower[:0], name...)
	for i, c := range e.lower {
		if 'A' <= c && c <= 'Z' {
			e.lower[i] = c + 'a' - 'A'
		}
	}
	return e.lower
}

func appendLiteral(dst []byte, pattern byte, bits uint, nameIndex uint64, name, value []byte) []byte {
	dst = appendInteger(dst, pattern, bits, nameIndex)
	if nameIndex == 0 {
		dst = appendInteger(dst, 0, 7, uint64(len(name)))
		dst = append(dst, name...)
	}
	dst = appendInteger(dst, 0, 7, uint64(len(value)))
	return append(dst, value...)
}

func appendInteger(dst []byte, pattern byte, bits uint, n uint64) []byte {
	mask := uint64(1)<<bits - 1
	if n < mask {
		return append(dst, pattern|byte(n))
	}
	dst = append(dst, pattern|byte(mask))
	for n -= mask; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
