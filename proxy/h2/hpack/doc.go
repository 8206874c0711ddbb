// Package hpack is header compression for HTTP/2 (RFC 7541) over byte slices:
// neither side makes strings, and in a steady state neither allocates.
//
//	var d hpack.Decoder
//	d.Start(block)
//	for {
//		f, err := d.Next()            // err is io.EOF at the end of the block
//	}
//
//	var e hpack.Encoder
//	dst = e.Append(dst, name, value)
//
// A Decoder or Encoder belongs to one direction of one connection and is used
// by one goroutine at a time, in the order of the blocks on the wire.
package hpack

// DefaultTableSize is the size of the dynamic table until settings say
// otherwise (RFC 9113, section 6.5.2).
const DefaultTableSize = 4096

// overhead is what the table's size counts for an entry besides its bytes
// (RFC 7541, section 4.1).
const overhead = 32

// table is the dynamic table: a ring of entries whose bytes lie one after the
// other in an arena. Evicting forgets an entry from the front; when the arena
// is used up what is left moves to its beginning, so that each byte moves at
// most once on average.
type table struct {
	ents    []entry // ring, a power of two long
	first   uint64  // number of the oldest entry; entries count up from 0
	next    uint64  // number of the next entry
	size    uint32  // as the RFC counts it
	max     uint32
	arena   []byte
	arenaLo int // nothing below is in use
}

type entry struct {
	off, name, value uint32 // position in the arena and lengths
	tag              uint16
	hash             uint64
	follower         uint64 // encoder: number + 1 of the entry that was sent after it
}

func (t *table) len() int { return int(t.next - t.first) }

func (t *table) at(n uint64) *entry { return &t.ents[n&uint64(len(t.ents)-1)] }

func (t *table) bytes(e *entry) (name, value []byte) {
	m, end := e.off+e.name, e.off+e.name+e.value
	return t.arena[e.off:m:m], t.arena[m:end:end]
}

func (t *table) evict() {
	e := t.at(t.first)
	t.size -= e.name + e.value + overhead
	t.arenaLo = int(e.off + e.name + e.value)
	t.first++
	if t.first == t.next {
		t.arena, t.arenaLo = t.arena[:0], 0
	}
}

// resize sets the maximum.
func (t *table) resize(max uint32) {
	t.max = max
	for t.size > max {
		t.evict()
	}
}

// add inserts an entry and evicts what has to go for it. name and value may lie
// in the arena. It reports whether the entry is in the table: one that is
// larger than the table empties it (RFC 7541, section 4.4).
func (t *table) add(name, value []byte) (*entry, bool) {
	n := len(name) + len(value)
	need := uint64(n) + overhead
	if need > uint64(t.max) {
		for t.len() > 0 {
			t.evict()
		}
		return nil, false
	}
	if len(t.arena)+n > cap(t.arena) {
		// Built aside, since name may lie in an entry about to be evicted.
		live := t.arena[t.arenaLo:]
		if t.len() == 0 {
			live = nil
		}
		fresh := make([]byte, len(live), max(256, 2*(len(live)+n)))
		copy(fresh, live)
		for i := t.first; i < t.next; i++ {
			t.at(i).off -= uint32(t.arenaLo)
		}
		t.arena, t.arenaLo = fresh, 0
	}
	off := len(t.arena)
	t.arena = append(t.arena, name...)
	t.arena = append(t.arena, value...)
	for uint64(t.size)+need > uint64(t.max) {
		t.evict()
		if t.len() == 0 {
			// evict reset the arena, below the bytes just added.
			t.arena = t.arena[:off+n]
			t.arenaLo = off
		}
	}
	if t.len() == len(t.ents) {
		bigger := make([]entry, max(16, 2*len(t.ents)))
		for i := t.first; i < t.next; i++ {
			bigger[i&uint64(len(bigger)-1)] = *t.at(i)
		}
		t.ents = bigger
	}
	e := t.at(t.next)
	*e = entry{off: uint32(off), name: uint32(len(name)), value: uint32(len(value))}
	t.next++
	t.size += uint32(need)
	return e, true
}

// statics is the static table (RFC 7541, appendix A); index 0 is not used.
var statics = [62]struct{ name, value string }{
	1: {":authority", ""}, 2: {":method", "GET"}, 3: {":method", "POST"},
	4: {":path", "/"}, 5: {":path", "/index.html"}, 6: {":scheme", "http"},
	7: {":scheme", "https"}, 8: {":status", "200"}, 9: {":status", "204"},
	10: {":status", "206"}, 11: {":status", "304"}, 12: {":status", "400"},
	13: {":status", "404"}, 14: {":status", "500"}, 15: {"accept-charset", ""},
	16: {"accept-encoding", "gzip, deflate"}, 17: {"accept-language", ""},
	18: {"accept-ranges", ""}, 19: {"accept", ""}, 20: {"access-control-allow-origin", ""},
	21: {"age", ""}, 22: {"allow", ""}, 23: {"authorization", ""}, 24: {"cache-control", ""},
	25: {"content-disposition", ""}, 26: {"content-encoding", ""}, 27: {"content-language", ""},
	28: {"content-length", ""}, 29: {"content-location", ""}, 30: {"content-range", ""},
	31: {"content-type", ""}, 32: {"cookie", ""}, 33: {"date", ""}, 34: {"etag", ""},
	35: {"expect", ""}, 36: {"expires", ""}, 37: {"from", ""}, 38: {"host", ""},
	39: {"if-match", ""}, 40: {"if-modified-since", ""}, 41: {"if-none-match", ""},
	42: {"if-range", ""}, 43: {"if-unmodified-since", ""}, 44: {"last-modified", ""},
	45: {"link", ""}, 46: {"location", ""}, 47: {"max-forwards", ""},
	48: {"proxy-authenticate", ""}, 49: {"proxy-authorization", ""}, 50: {"range", ""},
	51: {"referer", ""}, 52: {"refresh", ""}, 53: {"retry-after", ""}, 54: {"server", ""},
	55: {"set-cookie", ""}, 56: {"strict-transport-security", ""}, 57: {"transfer-encoding", ""},
	58: {"user-agent", ""}, 59: {"vary", ""}, 60: {"via", ""}, 61: {"www-authenticate", ""},
}

// staticBytes is the table as slices, which decoding hands out.
var staticBytes [62]struct{ name, value []byte }

func init() {
	for i, s := range statics {
		staticBytes[i].name, staticBytes[i].value = []byte(s.name), []byte(s.value)
	}
}
