package hpack

import "errors"

// huffmanLengths are the lengths in bits of the codes of the bytes 0 to 255
// (RFC 7541, appendix B). The code is canonical: the codes follow from their
// lengths. The end-of-string symbol has 30 bits, all ones.
var huffmanLengths = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

const (
	quickBits  = 9 // codes up to this long are decoded by one look-up
	maxHuffman = 30
)

var (
	// quick maps the next quickBits bits to symbol<<8 | length; 0 if the
	// code is longer.
	quick [1 << quickBits]uint16
	// Of each length: the first code, shifted up to 32 bits, with the code
	// after the last; and where its symbols begin in symbols.
	firstCode, endCode [maxHuffman + 1]uint64
	firstSymbol        [maxHuffman + 1]int
	symbols            [256]uint8
)

func init() {
	code, n := uint64(0), 0
	for l := 1; l <= maxHuffman; l++ {
		firstCode[l], firstSymbol[l] = code<<(32-l), n
		for s := range 256 {
			if int(huffmanLengths[s]) != l {
				continue
			}
			symbols[n] = uint8(s)
			n++
			if l <= quickBits {
				for i := range 1 << (quickBits - l) {
					quick[int(code)<<(quickBits-l)|i] = uint16(s)<<8 | uint16(l)
				}
			}
			code++
		}
		endCode[l] = code << (32 - l)
		code <<= 1
	}
}

var errHuffman = errors.New("hpack: malformed huffman code")

// appendHuffman appends the decoded form of src to dst.
func appendHuffman(dst, src []byte) ([]byte, error) {
	var acc uint64 // the next bits, left-aligned in the upper of have bits
	var have uint  // how many are in acc, at its low end
	for i := 0; ; {
		for have <= 32 && i < len(src) {
			acc = acc<<8 | uint64(src[i])
			have += 8
			i++
		}
		if have == 0 {
			return dst, nil
		}
		// The next 32 bits, filled up with ones, as padding is.
		var next uint64
		if have >= 32 {
			next = acc >> (have - 32) & 0xffffffff
		} else {
			next = acc<<(32-have)&0xffffffff | (1<<(32-have) - 1)
		}
		if q := quick[next>>(32-quickBits)]; q != 0 && uint(q&0xff) <= have {
			dst = append(dst, byte(q>>8))
			have -= uint(q & 0xff)
			acc &= 1<<have - 1
			continue
		}
		if have < 8 && next == 0xffffffff {
			return dst, nil // padding: the beginning of the end-of-string code
		}
		l := quickBits + 1
		for l <= maxHuffman && next >= endCode[l] {
			l++
		}
		if l > maxHuffman || uint(l) > have || next < firstCode[l] {
			return dst, errHuffman
		}
		dst = append(dst, symbols[firstSymbol[l]+int((next-firstCode[l])>>(32-l))])
		have -= uint(l)
		acc &= 1<<have - 1
	}
}
