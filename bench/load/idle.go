package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Hold opens n connections, a few at a time, does one HTTP/1.1 request on each
// of them, and keeps them open until release is called.
func Hold(addr netip.AddrPort, authority string, n int) (release func(), err error) {
	conns := make([]net.Conn, n)
	release = func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}
	errs := make(chan error, n)
	var next sync.Mutex
	at := 0
	var workers sync.WaitGroup
	for range min(n, 16) {
		workers.Go(func() {
			for {
				next.Lock()
				i := at
				at++
				next.Unlock()
				if i >= n {
					return
				}
				c, err := ask(addr, authority)
				if err != nil {
					errs <- err
					return
				}
				conns[i] = c
			}
		})
	}
	workers.Wait()
	close(errs)
	if err := <-errs; err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// ask does one request on a new connection.
func ask(addr netip.AddrPort, authority string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr.String(), 10*time.Second)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		c.Close()
		return nil, err
	}
	codec := newHTTP1(&Options{Authority: authority, Path: "/"})
	if _, err := c.Write(codec.begin(nil, time.Time{})); err != nil {
		c.Close()
		return nil, err
	}
	buf := make([]byte, 4096)
	for codec.busy {
		n, err := c.Read(buf)
		if err == nil {
			_, err = codec.read(buf[:n], nil, func(time.Time) {})
		}
		if err != nil {
			c.Close()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("request to %s: %w", addr, err)
		}
	}
	return c, c.SetDeadline(time.Time{})
}
