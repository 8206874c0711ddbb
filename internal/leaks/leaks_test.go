package leaks

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestMain(m *testing.M) { VerifyTestMain(m) }

func TestWait(t *testing.T) {
	for _, c := range []struct {
		name        string
		ends, after time.Duration
		left        bool
	}{
		{"nothing is left", 0, 0, false},
		{"slow to end", 10 * time.Second, 10 * time.Second, false},
		{"never ends", time.Hour, patience, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := wait(func() error {
					if time.Since(began) < c.ends {
						return errors.New("one is left")
					}
					return nil
				})
				if took := time.Since(began); (err != nil) != c.left || took < c.after || took > c.after+time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}

func TestFind(t *testing.T) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { <-stop; close(stopped) }()
	time.AfterFunc(time.Millisecond, func() { close(stop) })
	if err := Find(); err != nil {
		t.Error(err)
	}
	<-stopped
}
