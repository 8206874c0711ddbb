package identity

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestSparing: of many certificates of an account one event tells, and what was not told of is counted in the next.
func TestSparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := &heard{}
		s := NewSparing(heard, 24*time.Hour)
		for range 1000 {
			s.IssuedLeafCertificate("emo", "web", "one")
			s.IssuedLeafCertificate("emo", "voting", "two")
			time.Sleep(time.Minute)
		}
		if want := []string{"emo/web one", "emo/voting two"}; !slices.Equal(heard.messages, want) {
			t.Errorf("events %q, want %q", heard.messages, want)
		}
		time.Sleep(24 * time.Hour)
		s.IssuedLeafCertificate("emo", "web", "three")
		if got, want := heard.messages[2:], []string{"emo/web three (and 999 others since the last event)"}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		// What ends is forgotten.
		for n := range 100 {
			s.IssuedLeafCertificate("emo", fmt.Sprint("job-", n), "x")
			time.Sleep(24 * time.Hour)
		}
		if n := len(s.told); n > 4 {
			t.Errorf("%d accounts are remembered", n)
		}
		// All else is told each time.
		s.IssuerValidationFailed("a")
		s.IssuerValidationFailed("a")
		if got := heard.messages[len(heard.messages)-2:]; !slices.Equal(got, []string{"a", "a"}) {
			t.Errorf("events %q", got)
		}
	})
}

// heard keeps what was told.
type heard struct {
	Events
	messages []string
}

func (h *heard) IssuedLeafCertificate(namespace, account, message string) {
	h.messages = append(h.messages, namespace+"/"+account+" "+message)
}

func (h *heard) IssuerValidationFailed(message string) { h.messages = append(h.messages, message) }
