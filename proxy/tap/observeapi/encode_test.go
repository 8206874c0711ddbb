package observeapi

import (
	"testing"
	"unicode/utf8"

	"github.com/linkerd-go/linkerd-go/proxy/tap"
)

// TestEventsAreText: a request with any bytes in its path must not end the stream of
// those who observe it.
func TestEventsAreText(t *testing.T) {
	e := encode(0, &tap.Event{Meta: &tap.Meta{}, Kind: tap.RequestInit, Method: "GET", Authority: "a\xff", Path: "/\xff\xfe"})
	got := e.GetHttp().GetRequestInit()
	if !utf8.ValidString(got.GetPath()) || !utf8.ValidString(got.GetAuthority()) || got.GetPath() != "/\uFFFD" {
		t.Errorf("path %q, authority %q", got.GetPath(), got.GetAuthority())
	}
}
