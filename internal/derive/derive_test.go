package derive_test

import (
	"math/rand/v2"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/derive"
)

// TestAnswersFollowTheirFacts keeps sums of some of a few numbers, which change at random: after each change all must be right.
// Which numbers an answer reads depends on the numbers.
func TestAnswersFollowTheirFacts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const numbers, answers = 10, 5
	var table [numbers]int
	held := derive.New[int]()
	var all [answers]*derive.Node[int]
	var got, made [answers]int
	// sum adds up a chain: each number says which one is next.
	sum := func(from int, read func(int) int) int {
		total, at := 0, from
		for range 4 {
			total += read(at)
			at = (at + read(at)) % numbers
		}
		return total
	}
	for i := range answers {
		all[i] = &derive.Node[int]{Make: func(notes derive.Notes[int]) {
			made[i]++
			got[i] = sum(i, func(n int) int { notes.Note(n); return table[n] })
		}}
		held.Compute(all[i])
	}
	for range 2000 {
		changed := random.IntN(numbers)
		table[changed] = random.IntN(numbers)
		held.Touch(changed)
		if random.IntN(2) == 0 {
			held.Settle(all[random.IntN(answers)])
		}
		held.Update()
		for i := range answers {
			if want := sum(i, func(i int) int { return table[i] }); got[i] != want {
				t.Fatalf("answer %d is %d, want %d", i, got[i], want)
			}
		}
	}
	before := made
	held.Update()
	if made != before {
		t.Errorf("nothing has changed, and answers were made again: %v, then %v", before, made)
	}
	held.Mark(all[0])
	held.Update()
	if made[0] != before[0]+1 {
		t.Error("an answer that was marked was not made again")
	}
	held.Mark(all[1])
	for _, n := range all {
		held.Drop(n)
	}
	held.Update()
	if held.Len() != 0 || held.Read(0) || made[1] != before[1] {
		t.Errorf("after all answers were dropped there are %d, made %v, then %v", held.Len(), before, made)
	}
}
