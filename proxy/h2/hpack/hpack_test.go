package hpack

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

func decodeAll(t testing.TB, d *Decoder, block []byte) []string {
	t.Helper()
	d.Start(block)
	var out []string
	for {
		f, err := d.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("block %x: %v", block, err)
		}
		out = append(out, fmt.Sprintf("%s: %s", f.Name, f.Value))
	}
}

// randomFields makes heads that repeat themselves, as real ones do.
func randomFields(r *rand.Rand) [][2]string {
	names := []string{":path", ":authority", "user-agent", "x-request-id", "accept", "l5d-client-id", "date", "cookie", "authorization", "x"}
	var out [][2]string
	for range r.IntN(12) {
		v := make([]byte, r.IntN(40))
		if r.IntN(10) == 0 {
			v = make([]byte, r.IntN(3000))
		}
		for i := range v {
			v[i] = byte(r.IntN(256))
		}
		value := string(v)
		if r.IntN(2) == 0 {
			value = fmt.Sprintf("value %d", r.IntN(20))
		}
		out = append(out, [2]string{names[r.IntN(len(names))], value})
	}
	return out
}

// TestAgreesWithXNet sends random heads both ways between this package and
// golang.org/x/net/http2/hpack, with table sizes changing on the way.
func TestAgreesWithXNet(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var theirBlock bytes.Buffer
	theirEnc := xhpack.NewEncoder(&theirBlock)
	var ourDec Decoder
	var ourEnc Encoder
	theirDec := xhpack.NewDecoder(DefaultTableSize, nil)
	var fields [][2]string
	for range 3000 {
		// Heads often come once more, or but for a field: entries then follow each
		// other as before.
		switch n := r.IntN(4); {
		case n == 0 || len(fields) == 0:
			fields = randomFields(r)
		case n == 1:
			fields[r.IntN(len(fields))][1] = fmt.Sprintf("value %d", r.IntN(20))
		}
		if r.IntN(20) == 0 {
			n := uint32(r.IntN(DefaultTableSize + 1))
			theirEnc.SetMaxDynamicTableSize(n)
			ourEnc.SetMaxTableSize(n)
		}
		theirBlock.Reset()
		block := ourEnc.Begin(nil)
		var want []string
		for _, f := range fields {
			theirEnc.WriteField(xhpack.HeaderField{Name: f[0], Value: f[1]})
			block = ourEnc.Append(block, []byte(f[0]), []byte(f[1]))
			want = append(want, f[0]+": "+f[1])
		}
		if got := decodeAll(t, &ourDec, theirBlock.Bytes()); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("decoded %q, want %q", got, want)
		}
		hf, err := theirDec.DecodeFull(block)
		if err != nil {
			t.Fatalf("they cannot decode %x of %q: %v", block, want, err)
		}
		var got []string
		for _, f := range hf {
			got = append(got, f.Name+": "+f.Value)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("they decoded %q, want %q", got, want)
		}
	}
}

func TestHuffmanAgreesWithXNet(t *testing.T) {
	for c := range 256 {
		for n := range 5 {
			s := string(bytes.Repeat([]byte{byte(c), 'a'}, n))
			enc := xhpack.AppendHuffmanString(nil, s)
			got, err := appendHuffman(nil, enc)
			if err != nil || string(got) != s {
				t.Errorf("byte %d: %q, %v, want %q", c, got, err, s)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x82, 0x86, 0x84, 0x41, 0x0f, 'w'})
	f.Add([]byte{0x40, 0x81, 0xff, 0x82, 0x00, 0x00, 0xbe})
	f.Fuzz(func(t *testing.T, block []byte) {
		var want []string
		theirs := xhpack.NewDecoder(DefaultTableSize, func(f xhpack.HeaderField) {
			want = append(want, f.Name+": "+f.Value)
		})
		_, terr := theirs.Write(block)
		if terr == nil {
			terr = theirs.Close()
		}
		var d Decoder
		d.Start(block)
		var got []string
		var err error
		for {
			var f Field
			if f, err = d.Next(); err != nil {
				break
			}
			got = append(got, string(f.Name)+": "+string(f.Value))
		}
		if err == io.EOF {
			err = nil
		}
		if terr == nil && err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("decoded %q, they %q", got, want)
		}
		if err == errTableSize {
			return // they let it pass while their table is empty
		}
		if terr == nil && err != nil {
			t.Errorf("refused with %v what they decode to %q", err, want)
		}
	})
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var e Encoder
	var d Decoder
	var block []byte
	names := [][]byte{[]byte(":path"), []byte("User-Agent"), []byte("x-request-id"), []byte("host")}
	id := []byte("0123456789")
	n := 0
	once := func() {
		n++
		id[n%10] = byte('0' + n/10%10)
		block = e.Begin(block[:0])
		for _, name := range names {
			block = e.Append(block, name, []byte("a value"))
		}
		block = e.Append(block, names[2], id)
		d.Start(block)
		for {
			if _, err := d.Next(); err != nil {
				break
			}
		}
	}
	for range 5000 {
		once()
	}
	if a := testing.AllocsPerRun(1000, once); a > 0.01 {
		t.Errorf("%v allocations per head", a)
	}
}

func BenchmarkHead(b *testing.B) {
	var e Encoder
	var d Decoder
	var block []byte
	fields := [][2][]byte{
		{[]byte(":authority"), []byte("web-svc.emojivoto.svc.cluster.local:80")},
		{[]byte(":path"), []byte("/api/list?x=1")},
		{[]byte("host"), []byte("web-svc.emojivoto:80")},
		{[]byte("user-agent"), []byte("Mozilla/5.0 (X11; Linux x86_64)")},
		{[]byte("accept"), []byte("*/*")},
		{[]byte("l5d-orig-proto"), []byte("HTTP/1.1")},
		{[]byte("date"), []byte("Sat, 21 Nov 2026 00:00:00 GMT")},
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			block = e.Begin(block[:0])
			for _, f := range fields {
				block = e.Append(block, f[0], f[1])
			}
		}
	})
	e = Encoder{}
	for range 5 {
		block = e.Begin(block[:0])
		for _, f := range fields {
			block = e.Append(block, f[0], f[1])
		}
		decodeAll(b, &d, block)
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.Start(block)
			for {
				if _, err := d.Next(); err != nil {
					break
				}
			}
		}
	})
}
