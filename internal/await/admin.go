package await

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// An admin is the admin server of the proxy in the same pod.
type admin struct {
	client *http.Client
	base   string
}

func newAdmin(port uint16) *admin {
	p := strconv.Itoa(int(port))
	return &admin{
		base: "http://localhost:" + p,
		client: &http.Client{
			Transport: &http.Transport{
				// An image may lack the file that says what localhost is, and
				// a name server need not know; so the addresses are fixed.
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					var d net.Dialer
					c, err4 := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", p))
					if err4 == nil {
						return c, nil
					}
					c, err6 := d.DialContext(ctx, network, net.JoinHostPort("::1", p))
					if err6 == nil {
						return c, nil
					}
					return nil, errors.Join(err4, err6)
				},
				// A connection kept open would be one more for the proxy to
				// wait for when it shuts down.
				DisableKeepAlives: true,
			},
			// Only the admin server's own word counts.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// ready reports whether the proxy says that it is ready.
func (a *admin) ready(ctx context.Context) bool {
	status, err := a.do(ctx, http.MethodGet, "/ready")
	return err == nil && status/100 == 2
}

// shutdownTimeout bounds how long the proxy's answer is waited for. The program
// is done by then, so nothing depends on it.
const shutdownTimeout = 5 * time.Second

// shutdown tells the proxy to stop. If it cannot be told, it is not there, or
// somebody else will stop it.
func (a *admin) shutdown(ctx context.Context) {
	// The wish to end this process must not keep the proxy from ending too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	_, _ = a.do(ctx, http.MethodPost, "/shutdown")
}

func (a *admin) do(ctx context.Context, method, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	// Little is expected; more is not waited for.
	_, _ = io.CopyN(io.Discard, resp.Body, 4096)
	return resp.StatusCode, nil
}
