package retry

import (
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// budgetSlots is how many parts the budget's time to live is divided in.
const budgetSlots = 10

// Budget allows retries as a share of the requests of the recent past, and some
// per second in any case (proxy chapter, section 15.4). It is shared by the
// requests of a profile; methods may be called from any goroutine. A nil one
// allows nothing.
type Budget struct {
	slot              time.Duration
	deposit, withdraw int64
	reserve           int64

	mu sync.Mutex
	// All that follows is guarded by mu.
	start time.Time
	at    int64
	slots [budgetSlots]int64
}

// NewBudget makes a budget; nil if cfg is nil or out of range.
func NewBudget(cfg *model.RetryBudget, now time.Time) *Budget {
	if !cfg.Valid() {
		return nil
	}
	b := &Budget{slot: cfg.TTL / budgetSlots, start: now}
	// A retry costs 1/ratio requests. Above 1 that would round to nothing, so
	// everything counts a thousandfold there.
	switch {
	case cfg.Ratio == 0:
		b.deposit, b.withdraw = 0, 1
	case cfg.Ratio <= 1:
		b.deposit, b.withdraw = 1, int64(1/cfg.Ratio)
	default:
		b.deposit, b.withdraw = 1000, int64(1000/cfg.Ratio)
	}
	// The reserve is in the unit of withdrawals, so that MinPerSecond counts
	// retries whatever the ratio.
	b.reserve = int64(cfg.MinPerSecond) * int64(cfg.TTL/time.Second) * b.withdraw
	return b
}

// Deposit counts a request that is not a retry.
func (b *Budget) Deposit(now time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	b.slots[b.at%budgetSlots] += b.deposit
}

// Withdraw takes a retry out of the budget and reports whether it is allowed.
func (b *Budget) Withdraw(now time.Time) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	sum := b.reserve
	for _, s := range b.slots {
		sum += s
	}
	if sum < b.withdraw {
		return false
	}
	b.slots[b.at%budgetSlots] -= b.withdraw
	return true
}

func (b *Budget) advanceLocked(now time.Time) {
	at := int64(now.Sub(b.start) / b.slot)
	for i := 0; b.at < at; i++ {
		if i == budgetSlots {
			b.at = at
			return
		}
		b.at++
		b.slots[b.at%budgetSlots] = 0
	}
}
