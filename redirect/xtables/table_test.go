package xtables

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// emptyNat is the nat table of a new network namespace: four hooks that let
// everything pass.
func emptyNat(l *layout) blob {
	const accept = -2
	t := &table{layout: l, validHooks: 0b11011}
	for h := range hooks {
		if t.validHooks&(1<<h) != 0 {
			t.base[h] = &chain{entries: []entry{{raw: l.plainEntry(standardTarget(accept))}}}
		}
	}
	return t.encode()
}

func testPlan(t testing.TB) rules.Plan {
	t.Helper()
	p, err := rules.Build(rules.Options{
		InboundProxyPort: 4143, OutboundProxyPort: 4140, ProxyUID: 2102, ProxyGID: 2103, IPv6: true,
		InboundPortsToIgnore: []string{"4190", "9000-9002"},
		SubnetsToIgnore:      []string{"10.0.0.0/8", "fd00::/8"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPutAndTake(t *testing.T) {
	for _, f := range testPlan(t).Families {
		t.Run(f.Family.String(), func(t *testing.T) {
			l := layoutOf(f.Family)
			before := emptyNat(l)

			once := change(t, l, before, func(tab *table) {
				if err := tab.put(f); err != nil {
					t.Error(err)
				}
			})
			if bytes.Equal(once.entries, before.entries) {
				t.Error("putting the rules changed nothing")
			}
			twice := change(t, l, once, func(tab *table) {
				if err := tab.put(f); err != nil {
					t.Error(err)
				}
			})
			if diff := cmp.Diff(once, twice, cmp.AllowUnexported(blob{})); diff != "" {
				t.Errorf("putting again changed the table:\n%s", diff)
			}
			after := change(t, l, twice, func(tab *table) {
				if !tab.take() {
					t.Error("there was nothing to take")
				}
				if tab.take() {
					t.Error("there was something left to take")
				}
			})
			if diff := cmp.Diff(before, after, cmp.AllowUnexported(blob{})); diff != "" {
				t.Errorf("putting and taking left a difference:\n%s", diff)
			}
		})
	}
}

func change(t *testing.T, l *layout, b blob, do func(*table)) blob {
	t.Helper()
	tab, err := parse(l, b)
	if err != nil {
		t.Fatal(err)
	}
	do(tab)
	return tab.encode()
}

// Rules of others, with jumps across chains in both directions, survive.
func TestForeignRulesSurvive(t *testing.T) {
	l := &layoutIPv4
	early, late := &chain{name: "EARLY"}, &chain{name: "LATE"}
	tab, err := parse(l, emptyNat(l))
	if err != nil {
		t.Fatal(err)
	}
	jump := func(to *chain) entry { return entry{raw: l.plainEntry(standardTarget(0)), jump: to} }
	end := entry{raw: l.plainEntry(standardTarget(verdictReturn))}
	counts := entry{raw: l.plainEntry(standardTarget(0)), next: true}
	early.entries = []entry{counts, jump(late), end}
	late.entries = []entry{counts, end}
	tab.user = []*chain{early, late}
	output := tab.base[hookNumber(rules.Output)]
	output.entries = slices.Insert(output.entries, 0, jump(late), jump(early))
	before := tab.encode()

	f := testPlan(t).Families[0]
	after := change(t, l, change(t, l, before, func(tab *table) {
		// Ours are among the others', not only behind them.
		if err := tab.put(f); err != nil {
			t.Error(err)
		}
		slices.Reverse(tab.user)
	}), func(tab *table) {
		tab.take()
		slices.Reverse(tab.user)
	})
	if diff := cmp.Diff(before, after, cmp.AllowUnexported(blob{})); diff != "" {
		t.Errorf("foreign rules changed:\n%s", diff)
	}
}

// What cannot be understood is refused, never written back or read past its
// end.
func FuzzParse(f *testing.F) {
	for _, l := range []*layout{&layoutIPv4, &layoutIPv6} {
		b := emptyNat(l)
		f.Add(l.family == rules.IPv6, b.entries, uint16(3), byte(0xff))
		f.Add(l.family == rules.IPv6, b.entries, uint16(l.nextOffset), byte(1))
		f.Add(l.family == rules.IPv6, b.entries, uint16(l.targetOffset), byte(200))
		f.Add(l.family == rules.IPv6, b.entries[:len(b.entries)-8], uint16(0), byte(0))
	}
	f.Fuzz(func(t *testing.T, v6 bool, entries []byte, at uint16, value byte) {
		l := &layoutIPv4
		if v6 {
			l = &layoutIPv6
		}
		b := emptyNat(l)
		b.entries = bytes.Clone(entries)
		if int(at) < len(b.entries) {
			b.entries[at] = value
		}
		tab, err := parse(l, b)
		if err != nil {
			if !errors.Is(err, errBlob) {
				t.Errorf("error %v does not say what it is", err)
			}
			return
		}
		tab.encode()
		tab.take()
	})
}
