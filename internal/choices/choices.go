// Package choices makes random texts of which the parts that matter are written down: tests that put random objects into an index
// describe them so.
//
//	choices.Pick(r, `{kind: Pod, metadata: {name: {p0|p1}}}`) // {kind: Pod, metadata: {name: p1}}
//
// Nothing is kept between calls; r may not be used by two goroutines at once.
package choices

import "math/rand/v2"

// Pick makes one of the texts that a text stands for. A choice is what has a bar between braces, and loses the braces; choices may
// be nested, and then the inner one is made first. Braces without a bar of their own stay, since objects are written with them. The
// same state of r gives the same text. Braces have to be in pairs; a bar outside of them is a bar.
func Pick(r *rand.Rand, text string) string {
	type open struct {
		at   int
		bars []int
	}
	var stack []open
	whole := text
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			stack = append(stack, open{at: i})
		case '|':
			if len(stack) > 0 {
				top := &stack[len(stack)-1]
				top.bars = append(top.bars, i)
			}
		case '}':
			if len(stack) == 0 {
				panic("choices: a brace is closed that is not open: " + whole)
			}
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if len(top.bars) == 0 {
				continue
			}
			ends := append(append([]int{top.at}, top.bars...), i)
			n := r.IntN(len(ends) - 1)
			chosen := text[ends[n]+1 : ends[n+1]]
			text = text[:top.at] + chosen + text[i+1:]
			i = top.at + len(chosen) - 1
		}
	}
	if len(stack) > 0 {
		panic("choices: a brace is open at the end: " + whole)
	}
	return text
}
