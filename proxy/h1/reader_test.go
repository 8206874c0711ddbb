package h1

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// plenty is a connection on which all that is read is there already.
type plenty struct {
	net.Conn
	r     io.Reader
	reads []int
}

func (p *plenty) Read(b []byte) (int, error) {
	n, err := io.ReadFull(p.r, b)
	if n > 0 {
		p.reads = append(p.reads, len(b)>>10)
		return n, nil
	}
	return 0, err
}

// A connection reads into as much as its messages need: little for short ones,
// a lot at once after a long one, unless memory is scarce.
func TestReadsGrowWithMessages(t *testing.T) {
	message := func(body int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", body, strings.Repeat("x", body))
	}
	for _, c := range []struct {
		name   string
		bodies []int
		scarce bool
		reads  string
	}{
		{"short", []int{10, 10}, false, "[[4] [4]]"},
		{"long, then read at once, then short again", []int{60 << 10, 60 << 10, 10, 10}, false, "[[4 64] [64] [64] [4]]"},
		{"longer", []int{200 << 10, 200 << 10}, false, "[[4 64 64 64 64] [64 63 63 63]]"},
		{"scarce", []int{60 << 10, 60 << 10}, true, "[[4 64] [4 64]]"},
	} {
		outstanding := buf.Count()
		conn := &plenty{}
		rd := reader{conn: conn, scarce: func() bool { return c.scarce }}
		var got [][]int
		for _, size := range c.bodies {
			conn.r, conn.reads = strings.NewReader(message(size)), nil
			var head exchange.RequestHead
			p := parser{fields: &head.Fields, fr: framing{length: -1}, req: &head}
			if err := rd.readHead(&p, nil); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			var b body
			b.start(&rd, byLength, int64(size))
			for n := 0; ; {
				f, err := b.Next()
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				if n += len(f.Data); f.End {
					if n != size {
						t.Errorf("%s: %d bytes of %d", c.name, n, size)
					}
					break
				}
			}
			got = append(got, conn.reads)
			rd.rewind()
		}
		rd.release()
		if s := fmt.Sprint(got); s != c.reads {
			t.Errorf("%s: reads of %s KiB, want %s", c.name, s, c.reads)
		}
		if n := outstanding(); n != 0 {
			t.Errorf("%s: %d buffers are kept", c.name, n)
		}
	}
}
