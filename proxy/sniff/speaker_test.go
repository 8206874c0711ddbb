package sniff

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
)

func TestFirst(t *testing.T) {
	const timeout = 10 * time.Second
	for _, c := range []struct {
		name           string
		client, server []any // server nil: not there
		want           Speaker
		after          time.Duration
		dialled        bool
		fromClient     string
		fromServer     string
	}{
		{"client at once", []any{"GET / HTTP/1.1\r\n"}, []any{"220 hi"}, Client, 0, false, "GET / HTTP/1.1\r\n", ""},
		{"client closes", nil, []any{"220 hi"}, Client, 0, false, "", ""},
		{"server first", []any{timeout, "late"}, []any{"220 hi"}, Server, Patience, true, "late", "220 hi"},
		{"server after a while", []any{timeout, "late"}, []any{time.Second, "220 hi"}, Server, Patience + time.Second, true, "late", "220 hi"},
		{"slow client", []any{time.Second, "GET"}, []any{timeout, "x"}, Client, time.Second, true, "GET", ""},
		{"slow client, no server", []any{time.Second, "GET"}, nil, Client, time.Second, true, "GET", ""},
		{"server hangs up", []any{time.Second, "GET"}, []any{}, Client, time.Second, true, "GET", ""},
		{"nobody", []any{2 * timeout, "late"}, []any{2 * timeout}, Nobody, timeout, true, "late", ""},
		{"nobody, no server", []any{2 * timeout, "late"}, nil, Nobody, timeout, true, "late", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var scripts sync.WaitGroup
				defer scripts.Wait()
				app, client := faultconn.Pipe(1 << 10)
				scripts.Go(func() { script(app, c.client...) })
				dialled := false
				began := time.Now()
				got, server, who, err := First(client, timeout, func() (net.Conn, error) {
					dialled = true
					if c.server == nil {
						return nil, errors.New("refused")
					}
					a, b := faultconn.Pipe(1 << 10)
					scripts.Go(func() { script(a, c.server...) })
					return b, nil
				})
				if err != nil || who != c.want || dialled != c.dialled || time.Since(began) != c.after {
					t.Errorf("got %v, %v, dialled %v, after %v", who, err, dialled, time.Since(began))
				}
				if (server != nil) != (c.want == Server) {
					t.Fatal("the server's connection is not what was decided")
				}
				if rest, _ := io.ReadAll(got); string(rest) != c.fromClient {
					t.Errorf("the client sent %q", rest)
				}
				if server != nil {
					if rest, _ := io.ReadAll(server); string(rest) != c.fromServer {
						t.Errorf("the server sent %q", rest)
					}
					server.Close()
				}
				got.Close()
			})
		})
	}
}
