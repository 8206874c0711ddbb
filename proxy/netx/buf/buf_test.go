package buf

import "testing"

func TestClasses(t *testing.T) {
	for _, tc := range []struct{ want, size int }{
		{0, 1 << 10}, {1, 1 << 10}, {1024, 1 << 10}, {1025, 2 << 10}, {4096, 4 << 10},
		{417792, 512 << 10}, {Max, Max}, {Max + 1, Max + 1},
	} {
		b := Get(tc.want)
		if len(b.B) != tc.size {
			t.Errorf("Get(%d) has %d bytes, want %d", tc.want, len(b.B), tc.size)
		}
		b.Free()
	}
}

func TestGrowKeepsContent(t *testing.T) {
	left := Count()
	b := Get(10)
	copy(b.B, "hello")
	b = b.Grow(5, 5000)
	if string(b.B[:5]) != "hello" || len(b.B) != 8<<10 {
		t.Errorf("%q in %d bytes", b.B[:5], len(b.B))
	}
	if left() != 1 {
		t.Errorf("%d buffers are lent, want 1", left())
	}
	b.Free()
	(*Buffer)(nil).Free()
	if left() != 0 {
		t.Errorf("%d buffers are lent, want none", left())
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() { Get(4096).Free() }); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}
