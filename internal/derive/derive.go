// Package derive keeps answers up to date that are made from facts: it remembers which facts each answer was made from, so
// that a fact that changes leads to the answers that have to be made again, and to no others. So there is no second place
// that knows which events concern which answers.
//
//	answers := derive.New[fact]()
//	node := &derive.Node[fact]{Make: func(notes derive.Notes[fact]) { ... notes.Note(f) for each fact that is read ... }}
//	answers.Compute(node)
//	answers.Touch(f)                       // a fact has changed
//	answers.Update()                       // what was made from it is made again
//	answers.Drop(node)
//
// F tells facts apart. All of it belongs to one goroutine.
package derive

import "github.com/linkerd-go/linkerd-go/internal/shrink"

// Node is an answer's place among the others.
type Node[F comparable] struct {
	// Make makes the answer, and notes what it is made from. It may make, drop and mark other answers.
	Make func(notes Notes[F])

	// facts has each fact that was read, with the round in which it was read last.
	facts map[F]uint64
	round uint64
}

// Answers are all answers, and what they were made from. New makes one.
type Answers[F comparable] struct {
	dependents map[F]map[*Node[F]]struct{}
	outdated   map[*Node[F]]struct{}
}

// New returns the place of answers to come.
func New[F comparable]() *Answers[F] {
	return &Answers[F]{dependents: make(map[F]map[*Node[F]]struct{}), outdated: make(map[*Node[F]]struct{})}
}

// Compute makes an answer, for the first time or again.
func (a *Answers[F]) Compute(n *Node[F]) {
	delete(a.outdated, n)
	if n.facts == nil {
		n.facts = make(map[F]uint64)
	}
	n.round++
	n.Make(Notes[F]{a, n})
	for f, round := range n.facts {
		if round != n.round {
			a.forget(n, f)
		}
	}
}

// Touch says that a fact has changed.
func (a *Answers[F]) Touch(f F) {
	for n := range a.dependents[f] {
		a.outdated[n] = struct{}{}
	}
}

// Mark says that an answer has to be made, or made again, whatever it was made from.
func (a *Answers[F]) Mark(n *Node[F]) { a.outdated[n] = struct{}{} }

// Settle makes an answer again if it has to be.
func (a *Answers[F]) Settle(n *Node[F]) {
	if _, outdated := a.outdated[n]; outdated {
		a.Compute(n)
	}
}

// Update makes all answers again that have to be.
func (a *Answers[F]) Update() {
	for n := range a.outdated {
		a.Compute(n)
	}
}

// Read reports whether there is an answer that was made from a fact.
func (a *Answers[F]) Read(f F) bool { return len(a.dependents[f]) > 0 }

// Drop removes an answer.
func (a *Answers[F]) Drop(n *Node[F]) {
	delete(a.outdated, n)
	for f := range n.facts {
		a.forget(n, f)
	}
}

// Len returns how many facts answers were made from, and answers have to be made again.
func (a *Answers[F]) Len() int { return len(a.dependents) + len(a.outdated) }

// Shrink gives back the memory of what is gone.
func (a *Answers[F]) Shrink() { a.dependents = shrink.Map(a.dependents) }

func (a *Answers[F]) forget(n *Node[F], f F) {
	delete(n.facts, f)
	delete(a.dependents[f], n)
	if len(a.dependents[f]) == 0 {
		delete(a.dependents, f)
	}
}

// Notes takes the facts that one answer is made from. They are valid while it is made. The zero value drops them: for an
// answer that is not kept up to date.
type Notes[F comparable] struct {
	answers *Answers[F]
	node    *Node[F]
}

// Note says that the answer is made from a fact.
func (n Notes[F]) Note(f F) {
	if n.node == nil {
		return
	}
	if _, known := n.node.facts[f]; !known {
		dependents := n.answers.dependents
		if dependents[f] == nil {
			dependents[f] = make(map[*Node[F]]struct{})
		}
		dependents[f][n.node] = struct{}{}
	}
	n.node.facts[f] = n.node.round
}
