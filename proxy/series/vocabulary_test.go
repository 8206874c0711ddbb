package series

import (
	"strconv"
	"testing"
	"time"
)

func TestVocabulary(t *testing.T) {
	now := time.Unix(0, 0)
	v := NewVocabulary(3, time.Minute, func() time.Time { return now })
	for _, s := range []string{"a", "b", "c"} {
		if got := v.Label(s); got != s {
			t.Errorf("%s became %s", s, got)
		}
	}
	for i := range 10_000 {
		if got := v.Label(strconv.Itoa(i)); got != Other {
			t.Fatalf("%d became %s", i, got)
		}
	}
	now = now.Add(30 * time.Second)
	v.Label("b")
	now = now.Add(40 * time.Second)
	// a and c have not been used for a minute.
	for i, want := range []string{"0", "1", Other, Other} {
		if got := v.Label(strconv.Itoa(i)); got != want {
			t.Errorf("%d became %s, want %s", i, got, want)
		}
	}
	if v.Label("b") != "b" || v.Label("a") != Other {
		t.Error("the wrong ones were forgotten")
	}
}
