package h2

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
)

// TestNobodyWaitsForAPeerThatDoesNotRead: with one stream a sender writes itself, but
// not to a peer that has said nothing since. Cancelling the request helps at once.
func TestNobodyWaitsForAPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := faultconn.Pipe(1 << 10)
		c := NewClientConn(ours, Options{})
		io.ReadFull(theirs, make([]byte, len(Preface)))
		p := newPeer(t, theirs, false)
		p.fr.WriteSettings()
		for i := range 4 {
			// The pipe holds one of the requests that nobody reads.
			h := request("GET")
			h.Add("x", strings.Repeat("x", 600))
			var cn exchange.Canceler
			r := send(c, &cn, h, exchange.Empty)
			if i == 0 {
				theirs.Read(make([]byte, 4<<10))
				p.headers(1, true, ":status", "200")
				if got := <-r; got.status != 200 {
					t.Fatalf("got %+v", got)
				}
				continue
			}
			began := time.Now()
			cn.Cancel(io.ErrNoProgress)
			if got := <-r; got.err != io.ErrNoProgress || time.Since(began) != 0 {
				t.Errorf("request %d: %+v after %v", i, got, time.Since(began))
			}
		}
		theirs.Close()
		c.Close()
		c.Wait()
	})
}

// TestPrefaceIsLimited: a client that says nothing, or not all of its preface, is
// let go; one that has said it may be silent.
func TestPrefaceIsLimited(t *testing.T) {
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, c := range []struct {
		name, said string
		limit      time.Duration
	}{
		{"nothing", "", prefaceLimit},
		{"a part", xhttp2.ClientPreface[:10], prefaceLimit},
		{"all but SETTINGS", xhttp2.ClientPreface, prefaceLimit},
		{"all", xhttp2.ClientPreface + settings, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, client) }() // ends with the connection
				began, ended := time.Now(), make(chan time.Duration, 1)
				go func() {
					_ = NewServer(server, exchange.HandlerFunc(func(*exchange.Exchange) {}), nil, Options{}).Serve()
					ended <- time.Since(began)
				}()
				if c.said != "" {
					if _, err := io.WriteString(client, c.said); err != nil {
						t.Fatal(err)
					}
				}
				time.AfterFunc(time.Hour, func() { client.Close() })
				if took := <-ended; took != c.limit {
					t.Errorf("ended after %v, want %v", took, c.limit)
				}
				client.Close()
			})
		})
	}
}
