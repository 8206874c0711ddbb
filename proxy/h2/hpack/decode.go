package hpack

import (
	"errors"
	"io"
)

// Field is one decoded header field. The slices are valid until the next call
// of the decoder that made it, or for literals as long as the block.
type Field struct {
	Name, Value []byte
	// Tag is what Decoder.Classify said about the field.
	Tag uint16
}

// What can be wrong with a header block. All are connection errors
// (COMPRESSION_ERROR).
var (
	errIndex     = errors.New("hpack: index out of range")
	errTruncated = errors.New("hpack: truncated header block")
	errInteger   = errors.New("hpack: integer too large")
	errTableSize = errors.New("hpack: table size update not allowed")
)

// Decoder decodes the header blocks of one direction of a connection.
type Decoder struct {
	// Classify, if set, is asked about each field when it is first decoded;
	// fields that come from a table get the answer of then. So names and
	// values are checked once, however often they are repeated.
	Classify func(name, value []byte) uint16

	t        table
	limit    uint32 // what we announced: the most that t.max may become
	started  bool
	block    []byte
	begun    bool // a field of the block was decoded
	scratch  []byte
	statTags [62]uint16
	statOK   bool
}

// Start begins a block, which has to be complete.
func (d *Decoder) Start(block []byte) {
	if !d.started {
		d.started = true
		d.limit, d.t.max = DefaultTableSize, DefaultTableSize
	}
	if !d.statOK && d.Classify != nil {
		d.statOK = true
		for i := 1; i < len(staticBytes); i++ {
			d.statTags[i] = d.Classify(staticBytes[i].name, staticBytes[i].value)
		}
	}
	d.block, d.begun = block, false
	d.scratch = d.scratch[:0]
}

// Next returns the next field of the block, and io.EOF after the last. Another
// error ends the connection.
func (d *Decoder) Next() (Field, error) {
	for {
		if len(d.block) == 0 {
			return Field{}, io.EOF
		}
		c := d.block[0]
		switch {
		case c&0x80 != 0: // indexed
			i, err := d.integer(7)
			if err != nil {
				return Field{}, err
			}
			d.begun = true
			return d.field(i)
		case c&0xc0 == 0x40:
			return d.literal(6, true)
		case c&0xe0 == 0x20: // table size update
			n, err := d.integer(5)
			if err != nil {
				return Field{}, err
			}
			if d.begun || n > uint64(d.limit) {
				return Field{}, errTableSize
			}
			d.t.resize(uint32(n))
		default: // without indexing, or never indexed
			return d.literal(4, false)
		}
	}
}

// field returns a table entry by its index.
func (d *Decoder) field(i uint64) (Field, error) {
	if i == 0 {
		return Field{}, errIndex
	}
	if i < uint64(len(staticBytes)) {
		s := &staticBytes[i]
		return Field{s.name, s.value, d.statTags[i]}, nil
	}
	i -= uint64(len(staticBytes))
	if i >= uint64(d.t.len()) {
		return Field{}, errIndex
	}
	e := d.t.at(d.t.next - 1 - i)
	name, value := d.t.bytes(e)
	return Field{name, value, e.tag}, nil
}

func (d *Decoder) literal(bits uint, index bool) (Field, error) {
	d.begun = true
	i, err := d.integer(bits)
	if err != nil {
		return Field{}, err
	}
	d.scratch = d.scratch[:0]
	var f Field
	if i > 0 {
		if f, err = d.field(i); err != nil {
			return Field{}, err
		}
	} else if f.Name, err = d.str(); err != nil {
		return Field{}, err
	}
	if f.Value, err = d.str(); err != nil {
		return Field{}, err
	}
	f.Tag = 0
	if d.Classify != nil {
		f.Tag = d.Classify(f.Name, f.Value)
	}
	if index {
		// The name may be that of an entry which this one evicts; add
		// copies it before.
		if e, ok := d.t.add(f.Name, f.Value); ok {
			e.tag = f.Tag
			f.Name, f.Value = d.t.bytes(e)
		} else if i >= uint64(len(staticBytes)) {
			// Emptied: the name's bytes are still in the arena, as
			// nothing has been added since.
			return f, nil
		}
	}
	return f, nil
}

// integer reads a prefixed integer (RFC 7541, section 5.1).
func (d *Decoder) integer(bits uint) (uint64, error) {
	b := d.block
	mask := byte(1<<bits - 1)
	n := uint64(b[0] & mask)
	b = b[1:]
	if n < uint64(mask) {
		d.block = b
		return n, nil
	}
	for shift := uint(0); ; shift += 7 {
		if len(b) == 0 {
			return 0, errTruncated
		}
		if shift > 28 {
			return 0, errInteger
		}
		c := b[0]
		b = b[1:]
		n += uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			d.block = b
			return n, nil
		}
	}
}

// str reads a string literal. Huffman-coded ones are decoded into scratch.
func (d *Decoder) str() ([]byte, error) {
	if len(d.block) == 0 {
		return nil, errTruncated
	}
	huffman := d.block[0]&0x80 != 0
	n, err := d.integer(7)
	if err != nil {
		return nil, err
	}
	if n > uint64(len(d.block)) {
		return nil, errTruncated
	}
	s := d.block[:n:n]
	d.block = d.block[n:]
	if !huffman {
		return s, nil
	}
	// If scratch has to grow, the name decoded before keeps the old array.
	from := len(d.scratch)
	d.scratch, err = appendHuffman(d.scratch, s)
	if err != nil {
		return nil, err
	}
	return d.scratch[from:len(d.scratch):len(d.scratch)], nil
}
