package channel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct{ expected, actual, want string }{
		{"edge-26.3.1", "edge-26.3.1", ""},
		{"edge-26.3.1", "edge-26.3.1-foo", ""},
		{"edge-26.3.1-1", "edge-26.3.1-1-foo", ""},
		{"edge-26.3.2", "edge-26.3.1", "is running version 26.3.1 but the latest edge version is 26.3.2"},
		{"edge-26.3.1-2", "edge-26.3.1-1", "is running version 26.3.1-1 but the latest edge version is 26.3.1-2"},
		{"stable-2.14.0", "edge-26.3.1", "mismatched channels: running edge-26.3.1 but retrieved stable-2.14.0"},
		{"", "edge-26.3.1", "expected version is empty"},
		{"edge-26.3.1", "", "actual version is empty"},
		{"edge-26.3.1", "edge", "failed to parse actual version: unsupported version format: edge"},
		{"edge", "edge-26.3.1", "failed to parse expected version: unsupported version format: edge"},
	} {
		got := ""
		if err := Match(c.expected, c.actual); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s against %s: %q, want %q", c.actual, c.expected, got, c.want)
		}
	}
}

type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func TestFetch(t *testing.T) {
	body := func(status int, text string) answer {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader(text))}, nil
		}
	}
	for name, c := range map[string]struct {
		answer answer
		actual string
		want   string
	}{
		"latest":      {body(200, `{"edge":"edge-26.3.1","stable":"stable-2.14.0"}`), "edge-26.3.1", ""},
		"outdated":    {body(200, `{"edge":"edge-26.3.1"}`), "edge-26.2.1", "is running version 26.2.1 but the latest edge version is 26.3.1"},
		"hotpatch":    {body(200, `{"edgeHotpatch":"edge-26.3.1-2"}`), "edge-26.3.1-2", ""},
		"no channel":  {body(200, `{"edge":"edge-26.3.1"}`), "dev-undefined", "unsupported version channel: dev-undefined"},
		"wrong key":   {body(200, `{"edge":"stable-2.14.0"}`), "", "unexpected versioncheck response: "},
		"no JSON":     {body(200, `hello`), "", "unexpected versioncheck response: "},
		"not found":   {body(404, ``), "", "unexpected versioncheck response: Not Found"},
		"unreachable": {func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }, "", `Get "https://versioncheck`},
		"no name": {func(*http.Request) (*http.Response, error) { return nil, &net.DNSError{Err: "no such host"} }, "",
			"failed to resolve version check server: https://versioncheck.linkerd.io/version.json"},
	} {
		latest, err := Fetch(context.Background(), &http.Client{Transport: c.answer}, Server, "edge-26.3.1", "unknown")
		if err == nil {
			err = latest.Match(c.actual)
		}
		got := ""
		if err != nil {
			got = err.Error()
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestFetchWithoutNetwork: a network that drops what it does not let out costs
// seconds, and the error says whom nobody could ask.
func TestFetchWithoutNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := answer(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		begin := time.Now()
		_, err := Fetch(t.Context(), &http.Client{Transport: silent}, "https://versions.example/v", "edge-26.3.1", "unknown")
		if took := time.Since(begin); took != Timeout {
			t.Errorf("it took %s", took)
		}
		if want := "the version check server did not answer within 5s: https://versions.example/v"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}
