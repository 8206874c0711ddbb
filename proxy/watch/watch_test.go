package watch

import (
	"sync"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestReadersSeeTheLastValue(t *testing.T) {
	v := New(0)
	const last = 1000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			prev := -1
			for {
				got, changed := v.Watch()
				if got < prev {
					t.Errorf("went back from %d to %d", prev, got)
				}
				if prev = got; got == last {
					return
				}
				<-changed
			}
		})
	}
	for i := 1; i <= last; i++ {
		v.Set(i)
	}
	wg.Wait()
}

func TestMapped(t *testing.T) {
	v := New(2)
	m := Mapped(v, func(i int) string { return string(rune('a' + i)) })
	s, changed := m.Watch()
	if s != "c" {
		t.Fatal(s)
	}
	v.Set(3)
	<-changed
	if m.Get() != "d" || Const(7).Get() != 7 {
		t.Error(m.Get())
	}
}
