// H2spec runs the conformance suite of the same name (all sections: generic,
// HTTP/2 and HPACK) against the two HTTP/2 servers of the proxy: the inbound
// listener and the outbound listener, each of whole proxies with an application
// behind them.
//
//	go run ./test/h2spec                   # both listeners
//	go run ./test/h2spec -only inbound     # one of them
//	go run ./test/h2spec -section http2/6.9
//
// It ends with the suite's own summary, and with exit code 1 if anything failed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"

	"github.com/linkerd-go/linkerd-go/test/host"
	"github.com/linkerd-go/linkerd-go/test/pair"
)

func main() {
	log.SetFlags(0)
	only := flag.String("only", "", "inbound or outbound; both if empty")
	section := flag.String("section", "", "only this section, as the suite names it (http2/6.9)")
	verbose := flag.Bool("v", false, "show the frames")
	flag.Parse()
	h := &host.Host{}
	p := pair.New(h, limits)
	stop, err := serve(p)
	ok := err == nil
	for _, c := range []struct{ name, addr string }{{"outbound", p.Outbound(pair.HTTP2)}, {"inbound", p.Inbound(pair.HTTP2)}} {
		if err != nil || *only != "" && *only != c.name {
			continue
		}
		fmt.Printf("=== the %s listener\n\n", c.name)
		var passed bool
		passed, err = run(netip.MustParseAddrPort(c.addr), *section, *verbose)
		ok = ok && passed
	}
	h.Close()
	if err == nil {
		err = stop()
	}
	if err != nil {
		log.Fatal(err)
	}
	if !ok {
		os.Exit(1)
	}
}

// limits makes the proxies announce how many streams a client may have open. By
// default they announce none, and the suite leaves out the case that exceeds it.
var limits = pair.Env{"INBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS": "100", "OUTBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS": "100"}

func run(addr netip.AddrPort, section string, verbose bool) (bool, error) {
	c := &config.Config{
		Host: addr.Addr().String(), Port: int(addr.Port()), Path: "/", Timeout: 30 * time.Second, MaxHeaderLen: 4000, Verbose: verbose,
	}
	if section != "" {
		c.Sections = []string{section}
	}
	return h2spec.Run(c)
}

// serve starts the application: it speaks HTTP/2 and reads what is posted.
func serve(p *pair.Pair) (stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.Serve(pair.HTTP2, l)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the suite breaks off requests
		_, _ = io.WriteString(w, strings.Repeat("conformance ", 32))
	}), ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return func() error {
		err := s.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}
