package h2

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

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
