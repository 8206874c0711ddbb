package await

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// An admin is the admin server of the proxy in the same pod. Two requests without
// a body and their status are all that is needed of HTTP, so it is spoken by hand:
// the command is the proxy's binary, which has no use for a general client.
type admin struct{ port string }

func newAdmin(port uint16) *admin { return &admin{strconv.Itoa(int(port))} }

// ready reports whether the proxy says that it is ready.
func (a *admin) ready(ctx context.Context) bool {
	status, err := a.do(ctx, "GET", "/ready")
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
	_, _ = a.do(ctx, "POST", "/shutdown")
}

// dial connects. An image may lack the file that says what localhost is, and a
// name server need not know; so the addresses are fixed.
func (a *admin) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	c, err4 := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", a.port))
	if err4 == nil {
		return c, nil
	}
	c, err6 := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", a.port))
	if err6 == nil {
		return c, nil
	}
	return nil, errors.Join(err4, err6)
}

// do makes a request and returns the status of the answer, whose rest is not
// waited for. Only the admin server's own word counts: redirections are not
// followed.
func (a *admin) do(ctx context.Context, method, path string) (status int, err error) {
	c, err := a.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	// A connection kept open would be one more for the proxy to wait for when it
	// shuts down.
	_, err = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost:%s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, path, a.port)
	if err != nil {
		return 0, err
	}
	line, err := bufio.NewReaderSize(c, 256).ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	version, rest, _ := strings.Cut(string(line), " ")
	code, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if status, err = strconv.Atoi(code); err != nil || !strings.HasPrefix(version, "HTTP/1.") {
		return 0, fmt.Errorf("answer %q is not HTTP", line)
	}
	return status, nil
}
