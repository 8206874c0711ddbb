package deadline

import (
	"fmt"
	"testing"
	"time"
)

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		e           Error
		text, label string
	}{
		{Error{ResponseHeaders, 300 * time.Millisecond, false}, "timed out waiting for response headers: response header timeout: 300ms", "RESPONSE_HEADERS_TIMEOUT"},
		{Error{Response, time.Second, false}, "timed out waiting for response headers: response stream timeout: 1s", "RESPONSE_STREAM_TIMEOUT"},
		{Error{Request, time.Second, false}, "timed out waiting for response headers: request timeout: 1s", "REQUEST_TIMEOUT"},
		{Error{Request, time.Minute, false}, "timed out waiting for response headers: request timeout: 60s", "REQUEST_TIMEOUT"},
		{Error{Idle, time.Second, true}, "timed out processing response stream: idle timeout: 1s", "IDLE_TIMEOUT"},
		{Error{Profile, 2 * time.Second, false}, "HTTP response timeout after 2s", "REQUEST_TIMEOUT"},
		{Error{Connect, time.Second, false}, "connect timed out after 1s", "IO"},
	} {
		if c.e.Error() != c.text || c.e.Label() != c.label || !c.e.Timeout() {
			t.Errorf("%q %q", c.e.Error(), c.e.Label())
		}
		if !Is(fmt.Errorf("endpoint: %w", &c.e), c.e.Kind) || Is(fmt.Errorf("x"), c.e.Kind) {
			t.Error("Is")
		}
	}
}
