// Package channel reads and compares versions of the form channel-version and
// asks the version server for the latest (CLI chapter, section 1.7).
//
// Comparing is pure; Fetch makes one HTTP request. Everything is safe for
// concurrent use.
package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Server answers what the latest versions are, where nobody says another address.
const Server = "https://versioncheck.linkerd.io/version.json"

// Timeout is how long the server may take. Where networks drop what they do
// not let out, it is how long each check waits for nothing.
const Timeout = 5 * time.Second

// maxAnswer bounds the answer of the server.
const maxAnswer = 1 << 20

// version is a parsed version.
type version struct {
	channel, version string
	hotpatch         *int64
	original         string
}

func parse(text string) (version, error) {
	parts := strings.Split(text, "-")
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return version{}, fmt.Errorf("unsupported version format: %s", text)
	}
	v := version{channel: parts[0], version: parts[1], original: text}
	for _, part := range parts[2:] {
		if n, err := strconv.ParseInt(part, 10, 64); err == nil {
			v.hotpatch = &n
			break
		}
	}
	return v, nil
}

// key is where the answer of the server has the latest of a version's kind.
func (v version) key() string {
	if v.hotpatch != nil {
		return v.channel + "Hotpatch"
	}
	return v.channel
}

func (v version) sameAs(o version) bool {
	if v.channel != o.channel || v.version != o.version {
		return false
	}
	if v.hotpatch == nil || o.hotpatch == nil {
		return v.hotpatch == nil && o.hotpatch == nil
	}
	return *v.hotpatch == *o.hotpatch
}

// Match returns nil when actual is the expected version.
func Match(expected, actual string) error {
	if expected == "" {
		return errors.New("expected version is empty")
	}
	if actual == "" {
		return errors.New("actual version is empty")
	}
	a, err := parse(actual)
	if err != nil {
		return fmt.Errorf("failed to parse actual version: %w", err)
	}
	e, err := parse(expected)
	if err != nil {
		return fmt.Errorf("failed to parse expected version: %w", err)
	}
	if a.channel != e.channel {
		return fmt.Errorf("mismatched channels: running %s but retrieved %s", a.original, e.original)
	}
	if !a.sameAs(e) {
		return fmt.Errorf("is running version %s but the latest %s version is %s", shown(a), a.channel, shown(e))
	}
	return nil
}

// shown is a version without its channel.
func shown(v version) string { return strings.TrimPrefix(v.original, v.channel+"-") }

// Latest are the latest versions, by kind.
type Latest map[string]string

// Expect returns the Latest in which a given version is the latest of its
// kind, for users who tell it instead of asking the server.
func Expect(text string) (Latest, error) {
	v, err := parse(text)
	if err != nil {
		return nil, err
	}
	return Latest{v.key(): text}, nil
}

// Match returns nil when actual is the latest of its kind.
func (l Latest) Match(actual string) error {
	v, err := parse(actual)
	if err != nil {
		return err
	}
	expected, ok := l[v.key()]
	if !ok {
		return fmt.Errorf("unsupported version channel: %s", actual)
	}
	return Match(expected, actual)
}

// Fetch asks a version server. uuid identifies the installation, "unknown"
// without one.
func Fetch(ctx context.Context, client *http.Client, server, running, uuid string) (Latest, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	query := url.Values{"version": {running}, "uuid": {uuid}, "source": {"cli"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) {
			return nil, fmt.Errorf("failed to resolve version check server: %s", server)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("the version check server did not answer within %s: %s", Timeout, server)
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("unexpected versioncheck response: %s", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	answer := map[string]string{}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("unexpected versioncheck response: %w", err)
	}
	latest := Latest{}
	for key, text := range answer {
		v, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("unexpected versioncheck response: %w", err)
		}
		if key != v.key() && key != v.channel {
			return nil, fmt.Errorf("unexpected versioncheck response: channel in %s does not match %s", text, key)
		}
		latest[key] = text
	}
	return latest, nil
}
