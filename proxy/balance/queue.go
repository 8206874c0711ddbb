package balance

import (
	"sync"
	"sync/atomic"
	"time"
)

// queue is where requests wait until somebody is ready. Requests that are let
// go try to pick again, so the queue knows nothing of endpoints.
type queue struct {
	capacity int
	failfast time.Duration
	// shut says that the queue is in fail-fast. Written with mu held.
	shut atomic.Bool

	mu sync.Mutex
	// All that follows is guarded by mu.
	waiting int
	// round is closed to let all that wait try again, or fail if err is set
	// or the queue is shut.
	round chan struct{}
	// err is why requests fail for good; nil unless fail was called since
	// the last release.
	err   error
	timer *time.Timer
	// due is when the timer is meant to expire: one that had expired already when
	// it was set anew says so too early.
	due  time.Time
	gate GateStats
}

func (q *queue) init(capacity int, failfast time.Duration) {
	q.capacity, q.failfast = capacity, failfast
	q.round = make(chan struct{})
	q.gate.OpenedAt = time.Now()
}

// enter takes a place in the queue. The caller waits for round to be closed,
// then asks again, and leaves in the end.
func (q *queue) enter() (round <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.errLocked(); err != nil {
		return nil, err
	}
	if q.waiting >= q.capacity {
		return nil, ErrLoadShed
	}
	if q.waiting++; q.waiting == 1 && q.failfast > 0 {
		// The first that has to wait starts the clock.
		q.startLocked()
	}
	return q.round, nil
}

// startLocked starts the time anew after which the queue is shut.
func (q *queue) startLocked() {
	q.due = time.Now().Add(q.failfast)
	if q.timer == nil {
		q.timer = time.AfterFunc(q.failfast, q.expire)
	} else {
		q.timer.Reset(q.failfast)
	}
}

// again returns the next round to wait for, or why there is none.
func (q *queue) again() (round <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.round, q.errLocked()
}

func (q *queue) errLocked() error {
	if q.err != nil {
		return q.err
	}
	if q.shut.Load() {
		return ErrFailfast
	}
	return nil
}

// leave gives the place up.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting--; q.waiting == 0 && q.timer != nil {
		q.timer.Stop()
	}
}

// expire shuts the queue: nothing was ready for too long.
func (q *queue) expire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if q.waiting == 0 || q.shut.Load() || q.err != nil || now.Before(q.due) {
		return
	}
	q.shut.Store(true)
	q.gate.Shut++
	q.gate.ShutAt = now
	q.nextLocked()
}

// release lets those who wait try again and ends fail-fast: somebody is ready.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = nil
	if q.shut.Load() {
		q.shut.Store(false)
		q.gate.Opened++
		q.gate.OpenedAt = time.Now()
	}
	if q.waiting == 0 {
		return
	}
	if q.timer != nil {
		// Whoever has to go on waiting gets the full time again.
		q.startLocked()
	}
	q.nextLocked()
}

// fail makes all that wait and all that come fail with err until release.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	q.err = err
	if q.timer != nil {
		q.timer.Stop()
	}
	q.nextLocked()
}

func (q *queue) nextLocked() {
	close(q.round)
	q.round = make(chan struct{})
}

func (q *queue) stats() (int, GateStats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.gate
}
