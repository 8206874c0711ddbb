package overload

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name   string
		before level
		used   int64
		want   level
	}{
		{"plenty", normal, 500, normal},
		{"just below", normal, 849, normal},
		{"begins", normal, 850, scarce},
		{"goes on a little below", scarce, 810, scarce},
		{"ends", scarce, 799, normal},
		{"gets worse", scarce, 920, critical},
		{"all at once", normal, 930, critical},
		{"the very last moment", critical, 965, desperate},
		{"right after it", desperate, 955, critical},
		{"long after it", desperate, 870, scarce},
		{"stays critical a little below", critical, 900, critical},
		{"gets better", critical, 870, scarce},
		{"nearly over", critical, 801, scarce},
		{"is over", critical, 100, normal},
	} {
		if got := judge(c.before, Usage{Limit: 1000 << 20, Used: c.used << 20}); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	if judge(normal, Usage{Limit: 1000 << 20, Used: 800 << 20, Stacks: 150 << 20}) != scarce {
		t.Error("stacks that may double do not count")
	}
	if judge(critical, Usage{Used: 5}) != normal {
		t.Error("without a limit nothing is scarce")
	}
}

func TestHeapLimit(t *testing.T) {
	const m = 1 << 20
	for _, c := range []struct {
		name string
		u    Usage
		want int64
	}{
		{"nothing but the heap", Usage{Limit: 1000 * m, Used: 100 * m, Heap: 100 * m}, 820 * m},
		{"a small container", Usage{Limit: 48 * m, Used: 10 * m, Heap: 10 * m}, 36 * m},
		{"the kernel has some", Usage{Limit: 1000 * m, Used: 400 * m, Heap: 200 * m}, 620 * m},
		{"the kernel has nearly all", Usage{Limit: 1000 * m, Used: 900 * m, Heap: 100 * m}, 300 * m},
		{"the operator wants less", Usage{Limit: 1000 * m, Used: 100 * m, Heap: 100 * m, HeapMax: 400 * m}, 400 * m},
		{"the operator wants more", Usage{Limit: 1000 * m, Used: 100 * m, Heap: 100 * m, HeapMax: 4000 * m}, 820 * m},
	} {
		if got := heapLimit(c.u); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestHeadroom(t *testing.T) {
	for _, mb := range []int64{1, 10, 16, 32, 64, 250, 2048} {
		m := headroom(mb << 20)
		if m.last <= 0 || m.critical <= m.last || m.relieved <= m.critical || m.scarce <= m.relieved || m.heap <= m.scarce ||
			m.calm <= m.heap || m.calm >= mb<<20/2 {
			t.Errorf("%d MB: %+v", mb, m)
		}
	}
}

func TestVictims(t *testing.T) {
	const k = 1 << 10
	for _, c := range []struct {
		name   string
		held   []int64
		excess int64
		want   []int
	}{
		{"nothing to free", []int64{5 * k, 5 * k}, 0, []int{}},
		{"the newest of equals", []int64{1 * k, 2 * k, 3 * k}, 1, []int{0}},
		{"the one that holds most", []int64{1 * k, 2000 * k, 3 * k}, 100 * k, []int{1}},
		{"as many as it takes", []int64{100 * k, 2000 * k, 300 * k, 0}, 2200 * k, []int{1, 2}},
		{"all, if that is not enough", []int64{0, 0}, 1 << 30, []int{0, 1}},
		{"nobody there", nil, 1 << 30, []int{}},
	} {
		conns := make([]Conn, len(c.held))
		for i, h := range c.held {
			conns[i].Held = h
		}
		if got := victims(conns, c.excess); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestFairShares: who holds most gives, however many connections it has.
func TestFairShares(t *testing.T) {
	const k = 1 << 10
	for _, c := range []struct {
		name string
		// conns are "client held" in KiB, the newest first.
		conns  string
		excess int64
		want   []int
	}{
		{"many small ones hold more than a large one", "10.0.0.1 0,10.0.0.1 0,10.0.0.1 0,10.0.0.1 0,10.0.0.2 48", 30 * k, []int{0, 1}},
		{"until it is no more than another's", "10.0.0.1 0,10.0.0.1 0,10.0.0.1 0,10.0.0.1 0,10.0.0.2 48", 60 * k, []int{0, 1, 4}},
		{"the client's heaviest goes first", "10.0.0.2 0,10.0.0.1 0,10.0.0.1 500,10.0.0.1 300", 1, []int{2}},
		{"small clients keep theirs", "10.0.0.2 0,10.0.0.3 0,10.0.0.1 100,10.0.0.1 100,10.0.0.1 100", 300 * k, []int{2, 3, 4}},
		{"equals in turn, the newest first", "10.0.0.1 0,10.0.0.1 0,10.0.0.2 0,10.0.0.2 0", 70 * k, []int{0, 2, 1}},
		{"a network of IPv6 is one client", "2001:db8::1 0,2001:db8::2 0,2001:db8::3 0,2001:db8:0:1::1 30", 60 * k, []int{0, 1, 3}},
		{"so are all forms of an address", "::ffff:10.0.0.1 0,10.0.0.1 0,10.0.0.2 30", 24 * k, []int{0}},
	} {
		var conns []Conn
		for _, text := range strings.Split(c.conns, ",") {
			addr, held, _ := strings.Cut(text, " ")
			n, err := strconv.ParseInt(held, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, Conn{Client: netip.MustParseAddr(addr), Held: n * k})
		}
		if got := victims(conns, c.excess); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestHeavyClientsGoFirst: while memory is scarce, connections that are over their
// client's share are served no more, and others are as before; alone, a client has
// no share to exceed.
func TestHeavyClientsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		g := w.guard()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { g.Run(ctx) })
		conn := func(addr string, held int64) Conn {
			a, b := net.Pipe()
			t.Cleanup(func() { a.Close(); b.Close() })
			c := g.Pace(a)
			g.Served(StandingOf(c))
			return Conn{Conn: c, Held: held, Client: netip.MustParseAddr(addr)}
		}
		const mb = 1 << 20
		heavy, heavier, light := conn("10.0.0.1", 40*mb), conn("10.0.0.1", 80*mb), conn("10.0.0.2", mb)
		refused := func() (list []bool) {
			// Every reading that is taken has its consequences before the next.
			for range 20 {
				g.Full()
				synctest.Wait()
				time.Sleep(5 * time.Millisecond)
			}
			for _, c := range []Conn{heavy, heavier, light} {
				list = append(list, g.Refuse(time.Now(), StandingOf(c.Conn)))
			}
			return list
		}
		set := func(percent int64, conns ...Conn) {
			w.set(percent)
			w.mu.Lock()
			w.conns = conns
			w.mu.Unlock()
		}
		// At 86 % there are some 20 MB above what would be calm.
		for _, c := range []struct {
			name    string
			percent int64
			conns   []Conn
			want    []bool
		}{
			{"plenty", 50, []Conn{light, heavy, heavier}, []bool{false, false, false}},
			{"scarce", 86, []Conn{light, heavy, heavier}, []bool{false, true, false}},
			{"plenty again", 50, []Conn{light, heavy, heavier}, []bool{false, false, false}},
			{"alone", 86, []Conn{heavy, heavier}, []bool{false, false, false}},
		} {
			set(c.percent, c.conns...)
			if got := refused(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: refused %v, want %v", c.name, got, c.want)
			}
		}
		cancel()
		running.Wait()
	})
}

// whole is large enough for all margins to be shares of it.
const whole = 1 << 30

// world is a process whose memory the test sets.
type world struct {
	mu    sync.Mutex
	used  int64
	err   error
	conns []Conn
	reset []net.Conn
	freed int
}

func (w *world) guard() *Guard {
	return New(Options{
		Read: func() (Usage, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return Usage{Limit: whole, Used: w.used, Heap: w.used}, w.err
		},
		Conns: func() []Conn {
			w.mu.Lock()
			defer w.mu.Unlock()
			return append([]Conn(nil), w.conns...)
		},
		Reset: func(c net.Conn) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reset = append(w.reset, c)
		},
		Free:      func() { w.mu.Lock(); w.freed++; w.mu.Unlock() },
		LimitHeap: func(int64) {},
		Log:       slog.New(slog.DiscardHandler),
	})
}

func (w *world) set(percent int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used = share(whole, percent)
}

func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		w.conns = []Conn{{Conn: a}, {Conn: b, Held: 2 << 30}}
		g := w.guard()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.Run(ctx)
		}()
		if g.Full() {
			t.Fatal("scarce from the beginning")
		}
		// Whoever asks finds out, before Run does.
		w.set(86)
		time.Sleep(20 * time.Millisecond)
		if !g.Scarce(time.Now()) {
			t.Error("not scarce at 86 %")
		}
		began := time.Now()
		g.Admit(nil)
		if time.Since(began) != slowly {
			t.Errorf("admitted after %v at 86 %%", time.Since(began))
		}
		if len(w.reset) != 0 {
			t.Error("connections were reset while memory was only scarce")
		}
		// Nothing is accepted while it is critical, and who holds most goes.
		w.set(93)
		time.Sleep(20 * time.Millisecond)
		admitted := make(chan struct{})
		go func() {
			g.Admit(nil)
			close(admitted)
		}()
		synctest.Wait()
		select {
		case <-admitted:
			t.Error("admitted at 93 %")
		default:
		}
		w.mu.Lock()
		if len(w.reset) == 0 || w.reset[0] != b || w.freed == 0 {
			t.Errorf("reset %v, freed %d times", w.reset, w.freed)
		}
		w.mu.Unlock()
		// What clients send waits, for a while.
		began = time.Now()
		go b.Write([]byte("x"))
		if _, err := g.Pace(a).Read(make([]byte, 1)); err != nil || time.Since(began) != longestPause {
			t.Errorf("read after %v: %v", time.Since(began), err)
		}
		stop := make(chan struct{})
		close(stop)
		g.Admit(stop)
		w.set(50)
		<-admitted
		if g.Full() || g.Stats().Reset == 0 || g.Stats().Scarce {
			t.Errorf("after it: %+v", g.Stats())
		}
		// A reading that fails refuses nothing.
		w.set(99)
		w.mu.Lock()
		w.err = errors.New("no reading")
		w.mu.Unlock()
		time.Sleep(5 * time.Second)
		if g.Full() {
			t.Error("scarce without a reading")
		}
		cancel()
		<-done
	})
}

// TestConnectionsOfStandingGoOn tells who is refused what, by how much of the memory
// is used.
func TestConnectionsOfStandingGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		g := w.guard()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { g.Run(ctx) })
		// They are Pace's, which the other ends of are not needed for.
		conn := func() net.Conn {
			a, b := net.Pipe()
			t.Cleanup(func() { a.Close(); b.Close() })
			go b.Write([]byte("x"))
			return g.Pace(a)
		}
		served, fresh := conn(), conn()
		if StandingOf(served) == nil || StandingOf(served.(*paced).Conn) != nil {
			t.Fatal("a connection has standing if it came from Pace")
		}
		g.Served(StandingOf(served))
		g.Served(nil)
		for _, c := range []struct {
			name            string
			percent         int64
			excused, others bool // whether they are served
		}{
			{"plenty", 50, true, true},
			{"scarce", 86, true, false},
			{"critical", 93, true, false},
			{"the very last moment", 97, false, false},
			{"scarce again", 85, true, false},
		} {
			w.set(c.percent)
			time.Sleep(20 * time.Millisecond)
			if got := !g.Refuse(time.Now(), StandingOf(served)); got != c.excused {
				t.Errorf("%s: a connection that was answered before: served %v", c.name, got)
			}
			if got := !g.TakeOn(StandingOf(served))(1); got != c.excused {
				t.Errorf("%s: memory for a connection that was answered before: %v", c.name, got)
			}
			for _, s := range []*Standing{StandingOf(fresh), nil} {
				if got := !g.Refuse(time.Now(), s); got != c.others {
					t.Errorf("%s: another connection: served %v", c.name, got)
				}
			}
			// To be answered now is no merit: it may be the flood's.
			if !c.others {
				g.Served(StandingOf(fresh))
			}
		}
		w.set(93)
		time.Sleep(20 * time.Millisecond)
		if !g.Full() {
			t.Fatal("not critical")
		}
		began := time.Now()
		if _, err := served.Read(make([]byte, 1)); err != nil || time.Since(began) != 0 {
			t.Errorf("read after %v: %v", time.Since(began), err)
		}
		cancel()
		running.Wait()
	})
}

func TestNilGuardShedsNothing(t *testing.T) {
	var g *Guard
	if g.Refuse(time.Now(), nil) || g.TakeOn(nil)(1<<30) {
		t.Error("refused")
	}
	g.Served(nil)
	g.Admit(nil)
	g.Run(t.Context())
	if g.Full() || g.Stats().Scarce {
		t.Error("scarce")
	}
}

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		limit int64
		want  Usage
	}{
		{"cgroup v2, in a container", map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "300\n",
			"sys/fs/cgroup/memory.stat": "anon 1\n",
		}, 1000, Usage{Limit: 1000, Used: 300, Heap: 300}},
		{"cgroup v2, cached files do not count", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1000\n", "sys/fs/cgroup/a/b/memory.current": "900\n",
			"sys/fs/cgroup/a/b/memory.stat": "anon 1\ninactive_file 100\nactive_file 50\nfile 200\n",
		}, 1000, Usage{Limit: 1000, Used: 750}},
		{"cgroup v2, no limit", map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "400\n",
		}, 0, Usage{}},
		{"cgroup v1", map[string]string{
			"proc/self/cgroup": "4:cpu,memory:/pod/c\n0::/\n",
			"sys/fs/cgroup/memory/pod/c/memory.limit_in_bytes":     "1000\n",
			"sys/fs/cgroup/memory/pod/c/memory.usage_in_bytes":     "900\n",
			"sys/fs/cgroup/memory/pod/c/memory.stat":               "inactive_file 7\ntotal_inactive_file 100\ntotal_active_file 50\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":           "9223372036854771712\n",
			"sys/fs/cgroup/memory/pod/other/memory.limit_in_bytes": "5\n",
		}, 1000, Usage{Limit: 1000, Used: 750}},
		{"cgroup v1, mounted as the root", map[string]string{
			"proc/self/cgroup": "4:memory:/pod/c\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "10\n", "sys/fs/cgroup/memory/memory.stat": "\n",
		}, 1000, Usage{Limit: 1000, Used: 10, Heap: 10}},
		{"cgroup v1, no limit", map[string]string{
			"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 0, Usage{}},
		{"no control groups", nil, 0, Usage{}},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		m, err := Open(dir)
		if c.limit == 0 {
			if !errors.Is(err, ErrUnlimited) {
				t.Errorf("%s: got %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := m.Read()
		if c.want.Heap == 0 {
			// They are this test's own.
			got.Heap, got.Stacks = 0, 0
		}
		if err != nil || got != c.want || m.Limit() != c.limit {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
		m.Close()
	}
}

// TestThisMachine reads what the kernel says here, whatever that is.
func TestThisMachine(t *testing.T) {
	m, err := Open("/")
	if errors.Is(err, ErrUnlimited) {
		t.Log("memory is not limited here")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	u, err := m.Read()
	if err != nil || u.Used <= 0 || u.Limit <= 0 {
		t.Errorf("got %+v, %v", u, err)
	}
}

func TestReadingsAreSeldomWhenThereIsPlenty(t *testing.T) {
	var text strings.Builder
	for _, percent := range []int64{10, 45, 55, 75, 90} {
		u := Usage{Limit: 64 << 20, Used: share(64<<20, percent)}
		for _, d := range []time.Duration{freshness(u), pause(u, 0), pause(u, 1), pause(u, 1000)} {
			text.WriteString(d.Round(time.Millisecond).String() + " ")
		}
		text.WriteString("\n")
	}
	want := "20ms 1s 1s 1s \n5ms 18ms 37ms 1s \n5ms 15ms 30ms 1s \n1ms 8ms 17ms 1s \n1ms 5ms 5ms 5ms \n"
	if text.String() != want {
		t.Errorf("got:\n%s", text.String())
	}
}
