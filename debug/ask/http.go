package ask

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Get sends a request and shows the response: connection, times, status, headers and body.
func Get(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := newFlags("get", "URL", "Send an HTTP request from the pod, through its proxy like the application's, and show the response.")
	method := f.StringP("request", "X", http.MethodGet, "The request's method")
	headers := f.StringArrayP("header", "H", nil, "A header \"NAME: VALUE\"; may be given several times")
	body := f.StringP("data", "d", "", "The request's body")
	insecure := f.BoolP("insecure", "k", false, "Accept every certificate; the image has no certificate authorities")
	prior := f.Bool("http2", false, "Speak HTTP/2 without TLS, as gRPC does")
	timeout := f.Duration("timeout", 30*time.Second, "Give up after this time")
	if code, done := f.read(args, 1, 1, stdout, stderr); done {
		return code
	}
	target := f.Arg(0)
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		err = fmt.Errorf("not an HTTP URL: %q", f.Arg(0))
	}
	if err != nil {
		return f.fail(stderr, 2, err)
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, *method, target, strings.NewReader(*body))
	if err != nil {
		return f.fail(stderr, 2, err)
	}
	for _, h := range *headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return f.fail(stderr, 2, fmt.Errorf("not a header: %q", h))
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "host") {
			request.Host = value
		} else {
			request.Header.Add(name, value)
		}
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: *insecure}, ForceAttemptHTTP2: true}
	if *prior {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	if err := send(transport, request, stdout); err != nil {
		return f.fail(stderr, 1, err)
	}
	return 0
}

// send makes one request, without following redirects, and prints what happens.
func send(transport *http.Transport, request *http.Request, stdout io.Writer) error {
	defer transport.CloseIdleConnections()
	begun := time.Now()
	since := func() time.Duration { return time.Since(begun).Round(10 * time.Microsecond) }
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) {
			fmt.Fprintf(stdout, "* connected from %s to %s after %s\n", c.Conn.LocalAddr(), c.Conn.RemoteAddr(), since())
		},
	}))
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	fmt.Fprintf(stdout, "* response after %s\n%s %s\n", since(), response.Proto, response.Status)
	show := func(h http.Header) {
		names := make([]string, 0, len(h))
		for name := range h {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, value := range h[name] {
				fmt.Fprintf(stdout, "%s: %s\n", strings.ToLower(name), value)
			}
		}
	}
	show(response.Header)
	fmt.Fprintln(stdout)
	n, err := io.Copy(stdout, response.Body)
	if err != nil {
		return fmt.Errorf("after %d bytes of the body: %w", n, err)
	}
	if len(response.Trailer) > 0 {
		fmt.Fprintln(stdout, "\n* trailers")
		show(response.Trailer)
	}
	fmt.Fprintf(stdout, "\n* body of %d bytes, done after %s\n", n, since())
	return nil
}

// Proxy prints a page of the proxy's admin server, its metrics if none is named.
func Proxy(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := newFlags("proxy", "[PAGE]", "Show a page of the proxy's admin server: metrics (if none is named), ready, live, env.json, config.json.")
	address := f.String("address", "localhost:4191", "The admin server")
	timeout := f.Duration("timeout", 10*time.Second, "Give up after this time")
	if code, done := f.read(args, 0, 1, stdout, stderr); done {
		return code
	}
	page := "metrics"
	if f.NArg() > 0 {
		page = strings.TrimPrefix(f.Arg(0), "/")
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+*address+"/"+page, nil)
	if err != nil {
		return f.fail(stderr, 2, err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return f.fail(stderr, 1, fmt.Errorf("ask the proxy at %s: %w", *address, err))
	}
	defer response.Body.Close()
	_, err = io.Copy(stdout, response.Body)
	if response.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("/%s of the proxy at %s: %s", page, *address, response.Status))
	}
	if err != nil {
		return f.fail(stderr, 1, err)
	}
	return 0
}
