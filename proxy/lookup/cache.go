package lookup

import (
	"context"
	"sync"
	"time"
)

// Cache keeps what was looked up by key while it is in use and for a while
// after, and looks up each key only once however many ask. All methods may be
// called from any goroutine.
type Cache[K comparable, V any] struct {
	run    func(ctx context.Context, key K, ready func(V)) error
	idle   time.Duration
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// entries and closed are guarded by mu, which is held for map accesses
	// and counting only.
	entries map[K]*entry[K, V]
	closed  bool
}

// entry is one key's lookup.
type entry[K comparable, V any] struct {
	cache *Cache[K, V]
	key   K
	// users, timer and gone are guarded by cache.mu. gone says that the entry
	// is no longer in the map.
	users int
	timer *time.Timer
	gone  bool

	cancel context.CancelFunc
	// settled is closed once value or err is final.
	settled chan struct{}
	once    sync.Once
	value   V
	err     error
}

// NewCache makes a cache. run does the lookup of one key, on a goroutine of its
// own: it calls ready once there is something to hand out and keeps it up to
// date until ctx is done. If it returns before it called ready, those who wait
// get its error (or ErrClosed) and the next who asks tries again; if it returns
// later, what it handed out stays until it expires. An entry without users
// expires after idle.
//
// Close has to be called in the end.
func NewCache[K comparable, V any](idle time.Duration, run func(ctx context.Context, key K, ready func(V)) error) *Cache[K, V] {
	c := &Cache[K, V]{run: run, idle: idle, entries: make(map[K]*entry[K, V])}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Get returns a lease on the value of key, waiting for it if need be until ctx
// is done.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (*Lease[V], error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	e := c.entries[key]
	if e == nil {
		e = c.startLocked(key)
	}
	e.users++
	if e.timer != nil {
		e.timer.Stop()
	}
	c.mu.Unlock()

	select {
	case <-e.settled:
	default:
		select {
		case <-e.settled:
		case <-ctx.Done():
			e.release()
			return nil, context.Cause(ctx)
		}
	}
	if e.err != nil {
		e.release()
		return nil, e.err
	}
	return &Lease[V]{value: e.value, release: e.release}, nil
}

// startLocked puts a new entry into the map and starts its lookup.
func (c *Cache[K, V]) startLocked(key K) *entry[K, V] {
	e := &entry[K, V]{cache: c, key: key, settled: make(chan struct{})}
	ctx, cancel := context.WithCancel(c.ctx)
	e.cancel = cancel
	c.entries[key] = e
	c.wg.Go(func() {
		defer cancel()
		err := c.run(ctx, key, func(v V) { e.settle(v, nil) })
		if err == nil {
			err = ErrClosed
		}
		var none V
		if e.settle(none, err) {
			// Nobody got a value: let the next one try again.
			c.mu.Lock()
			e.dropLocked()
			c.mu.Unlock()
		}
	})
	return e
}

// settle makes value and err final and reports whether it was the first to.
func (e *entry[K, V]) settle(v V, err error) bool {
	first := false
	e.once.Do(func() {
		first = true
		e.value, e.err = v, err
		close(e.settled)
	})
	return first
}

// release takes one user off and starts the clock after the last.
func (e *entry[K, V]) release() {
	c := e.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.users--; e.users > 0 || e.gone || c.closed {
		return
	}
	if e.timer == nil {
		e.timer = time.AfterFunc(c.idle, e.expire)
	} else {
		e.timer.Reset(c.idle)
	}
}

// expire ends the entry if it was not taken up again meanwhile.
func (e *entry[K, V]) expire() {
	e.cache.mu.Lock()
	if e.users == 0 {
		e.dropLocked()
	}
	e.cache.mu.Unlock()
}

// dropLocked takes the entry out of the map and ends its lookup.
func (e *entry[K, V]) dropLocked() {
	if e.gone {
		return
	}
	e.gone = true
	if e.timer != nil {
		e.timer.Stop()
	}
	delete(e.cache.entries, e.key)
	e.cancel()
}

// Len is the number of entries, for metrics and tests.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// Close ends all lookups and waits for them. Values that are still leased stop
// being updated.
func (c *Cache[K, V]) Close() {
	c.mu.Lock()
	c.closed = true
	for _, e := range c.entries {
		e.dropLocked()
	}
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// Lease is a value in use.
type Lease[V any] struct {
	value   V
	once    sync.Once
	release func()
}

// NewLease makes a lease on a value that needs no upkeep or has its own;
// release may be nil.
func NewLease[V any](v V, release func()) *Lease[V] { return &Lease[V]{value: v, release: release} }

// Value returns what the lease is on. It stays readable after Release but is
// no longer updated then.
func (l *Lease[V]) Value() V { return l.value }

// Release ends the use. Further calls do nothing.
func (l *Lease[V]) Release() {
	l.once.Do(func() {
		if l.release != nil {
			l.release()
		}
	})
}
