package table

import (
	"bytes"
	"testing"
)

func TestWrite(t *testing.T) {
	build := func() *Table {
		tb := New(Column{Header: "NAME", Left: true}, Column{Header: "HIDDEN", Hide: true}, Column{Header: "ROUTE", Left: true}, Column{Header: "RPS"})
		tb.Add("web", "x", "route", "1.0")
		tb.Add("", "x", "├─", "10.25")
		tb.Add("a", "x", "└─", "2")
		return tb
	}
	var out bytes.Buffer
	if err := build().WritePadded(&out); err != nil {
		t.Fatal(err)
	}
	if want := "NAME  ROUTE    RPS  \nweb   route    1.0  \n      ├────  10.25  \na     └────      2  \n"; out.String() != want {
		t.Errorf("padded:\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	sorted := build()
	sorted.SortBy = []int{0}
	if err := sorted.WriteAligned(&out); err != nil {
		t.Fatal(err)
	}
	if want := "NAME   ROUTE     RPS\n       ├────   10.25\na      └────       2\nweb    route     1.0\n"; out.String() != want {
		t.Errorf("aligned:\n%s\nwant\n%s", out.String(), want)
	}
	// The last column has no trailing blanks when it is left-aligned.
	out.Reset()
	last := New(Column{Header: "A", Left: true}, Column{Header: "SECURED", Left: true})
	last.Add("x", "√")
	if err := last.WriteAligned(&out); err != nil {
		t.Fatal(err)
	}
	if want := "A   SECURED\nx   √\n"; out.String() != want {
		t.Errorf("last column left:\n%q\nwant\n%q", out.String(), want)
	}
}
