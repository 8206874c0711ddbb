package portlist_test

import (
	"fmt"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

func TestParse(t *testing.T) {
	named := func(name string) []uint16 {
		switch name {
		case "http":
			return []uint16{8080}
		case "db-main":
			return []uint16{3306, 5432}
		}
		return nil
	}
	for _, c := range []struct{ list, want, errs string }{
		{"", "", "[]"},
		{"80", "80", "[]"},
		{" 80 , 443,", "80,443", "[]"},
		{"8000-8010, 9000 - 9001", "8000-8010,9000-9001", "[]"},
		{"65535,0-65535", "65535,1-65535", "[]"},
		{"http,81,db-main", "8080,81,3306,5432", "[]"},
		{"80,smtp,70000,9-8,0,0-0,443", "80,443",
			`["smtp" is neither a port nor a range of ports "70000" is neither a port nor a range of ports ` +
				`"9-8" is no range of ports: its ends are in the wrong order "0" is neither a port nor a range of ports "0-0" is neither a port nor a range of ports]`},
	} {
		set, errs := portlist.Parse(c.list, named)
		if got := fmt.Sprint(set); got != c.want || fmt.Sprint(errs) != c.errs {
			t.Errorf("%q: got %v, %v; want %v, %v", c.list, got, errs, c.want, c.errs)
		}
	}
	if _, errs := portlist.Parse("http", nil); len(errs) != 1 {
		t.Errorf("a name where there are none: %v", errs)
	}
}

func TestHas(t *testing.T) {
	set := portlist.Set{{First: 80, Last: 80}, {First: 8000, Last: 8010}}
	for port, want := range map[uint16]bool{80: true, 81: false, 7999: false, 8000: true, 8010: true, 8011: false} {
		if set.Has(port) != want {
			t.Errorf("port %d is in the set: %v", port, !want)
		}
	}
	if (portlist.Set)(nil).Has(80) {
		t.Error("the empty set has a port")
	}
}
