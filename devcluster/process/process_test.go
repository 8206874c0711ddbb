package process

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	// The name contains spaces and a parenthesis on purpose.
	line := "4242 (a b) c) S 1 4242 4242 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 9 0 987654 123456789 777 18446744073709551615 1 1 0"
	got, err := parseStat(line)
	if err != nil {
		t.Fatal(err)
	}
	if want := (stat{state: 'S', startTicks: 987654, pages: 777}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "1 (x) S 1", "nothing"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q) succeeds", bad)
		}
	}
}

func TestAliveKnowsItsProcess(t *testing.T) {
	self, err := readStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	record := Record{PID: os.Getpid(), StartTicks: self.startTicks}
	if !record.Alive() {
		t.Error("a running process looks dead")
	}
	record.StartTicks++
	if record.Alive() {
		t.Error("another process with the same number looks like ours")
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("old\none\ntwo\nthree\n")
	for _, test := range []struct {
		offset int64
		lines  int
		want   []string
	}{
		{0, 2, []string{"two", "three"}},
		{4, 9, []string{"one", "two", "three"}},
		{1000, 9, nil},
	} {
		got, err := Tail(path, test.offset, test.lines)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("Tail(%d, %d) = %q, %v; want %q", test.offset, test.lines, got, err, test.want)
		}
	}
	write(strings.Repeat("x", 100<<10) + "\nlast\n")
	if got, err := Tail(path, 0, 5); err != nil || !reflect.DeepEqual(got, []string{"last"}) {
		t.Errorf("a cut line is shown: %d lines, %v", len(got), err)
	}
}
