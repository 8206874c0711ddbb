package choices_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/choices"
)

func TestPick(t *testing.T) {
	for _, c := range []struct {
		text string
		// want is all that the text stands for, sorted.
		want []string
	}{
		{"", []string{""}},
		{"a", []string{"a"}},
		{"{a: b}", []string{"{a: b}"}},
		{"{}", []string{"{}"}},
		{"a|b", []string{"a|b"}},
		{"{a|b}", []string{"a", "b"}},
		{"x{a|b|c}y", []string{"xay", "xby", "xcy"}},
		{"x{|a}", []string{"x", "xa"}},
		{"x{a|}y", []string{"xay", "xy"}},
		{"{a|b}{c|d}", []string{"ac", "ad", "bc", "bd"}},
		{"{name: {a|b}, port: 80}", []string{"{name: a, port: 80}", "{name: b, port: 80}"}},
		{"{a{1|2}|b}", []string{"a1", "a2", "b"}},
		// What was chosen may have braces of its own, and stands within others.
		{"{{a: 1}|b: {c|d}}", []string{"b: c", "b: d", "{a: 1}"}},
		{"{k: {{x: 1}|{y: 1}}}", []string{"{k: {x: 1}}", "{k: {y: 1}}"}},
	} {
		got := map[string]bool{}
		for seed := range uint64(200) {
			text := choices.Pick(rand.New(rand.NewPCG(seed, 0)), c.text)
			if again := choices.Pick(rand.New(rand.NewPCG(seed, 0)), c.text); again != text {
				t.Errorf("%q with seed %d is %q and %q", c.text, seed, text, again)
			}
			got[text] = true
		}
		var list []string
		for text := range got {
			list = append(list, text)
		}
		slices.Sort(list)
		if !slices.Equal(list, c.want) {
			t.Errorf("%q is one of %q, want %q", c.text, list, c.want)
		}
	}
}

// TestUnpaired: a mistake in a text is told with the text.
func TestUnpaired(t *testing.T) {
	for _, text := range []string{"{a|b", "a|b}", "{a}}", "{{a|b}"} {
		func() {
			defer func() {
				if said, _ := recover().(string); !strings.HasPrefix(said, "choices: a brace is ") || !strings.HasSuffix(said, ": "+text) {
					t.Errorf("%q: got %q", text, said)
				}
			}()
			choices.Pick(rand.New(rand.NewPCG(0, 0)), text)
			t.Errorf("%q was taken", text)
		}()
	}
}
