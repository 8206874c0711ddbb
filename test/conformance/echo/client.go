package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api-conformance-images/echo-basic/grpcechoserver"
)

// requestTimeout is that of one request.
const requestTimeout = 10 * time.Second

// headerFlag collects header fields in the order given.
type headerFlag []string

func (h *headerFlag) String() string { return strings.Join(*h, ", ") }

func (h *headerFlag) Set(text string) error {
	if name, _, ok := strings.Cut(text, ":"); !ok || name == "" {
		return fmt.Errorf("%q is not name:value", text)
	}
	*h = append(*h, text)
	return nil
}

// request is what the client is asked to send.
type request struct {
	url     *url.URL
	method  string
	headers headerFlag
	count   int
}

func parse(args []string) (*request, error) {
	if len(args) == 0 {
		return nil, errors.New("the first argument has to be a URL")
	}
	u, err := url.Parse(args[0])
	if err != nil {
		return nil, err
	}
	r := &request{url: u}
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.StringVar(&r.method, "method", http.MethodGet, "HTTP method")
	flags.Var(&r.headers, "H", "header field as name:value; may be repeated")
	flags.IntVar(&r.count, "count", 1, "how many requests to send")
	if err := flags.Parse(args[1:]); err != nil {
		return nil, err
	}
	return r, nil
}

// send sends the requests that args describe, one after the other, and prints
// each answer as a block of lines with an empty line after it.
func send(ctx context.Context, args []string, out io.Writer) error {
	r, err := parse(args)
	if err != nil {
		return err
	}
	var once func(context.Context) (*answer, error)
	switch r.url.Scheme {
	case "http", "https":
		client := httpClient()
		defer client.CloseIdleConnections()
		once = func(ctx context.Context) (*answer, error) { return r.http(ctx, client) }
	case "grpc":
		conn, err := grpc.NewClient("passthrough:///"+withPort(r.url.Host, "7070"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		once = func(ctx context.Context) (*answer, error) { return r.grpc(ctx, conn) }
	default:
		return fmt.Errorf("%s: the scheme has to be http, https or grpc", r.url)
	}
	w := bufio.NewWriter(out)
	defer w.Flush()
	for i := range r.count {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		a, err := once(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		a.write(w, i, r.url)
	}
	return w.Flush()
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// answer is what came back.
type answer struct {
	status  int
	headers http.Header
	body    []byte
}

func (a *answer) write(w io.Writer, i int, u *url.URL) {
	var head bytes.Buffer
	fmt.Fprintf(&head, "Url=%s\nStatusCode=%d\n", u, a.status)
	writeHeaders(&head, "ResponseHeader", a.headers)
	lines := func(prefix string, text []byte) {
		for line := range bytes.Lines(text) {
			// An empty line would look like the end of the answer.
			if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
				fmt.Fprintf(w, "[%d%s] %s\n", i, prefix, line)
			}
		}
	}
	lines("", head.Bytes())
	lines(" body", a.body)
	fmt.Fprintln(w)
}

// httpClient returns a client that shows redirects instead of following them.
func httpClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			// The suite is about routes; its certificates are not for checking.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (r *request) http(ctx context.Context, client *http.Client) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range r.headers {
		name, value, _ := strings.Cut(h, ":")
		if strings.EqualFold(name, "Host") {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &answer{status: resp.StatusCode, headers: resp.Header, body: body}, nil
}

// grpc makes a call. One that succeeds is reported as HTTP's 200, as the suite
// expects; one that fails is an error, with which the suite tries again.
func (r *request) grpc(ctx context.Context, conn *grpc.ClientConn) (*answer, error) {
	for _, h := range r.headers {
		name, value, _ := strings.Cut(h, ":")
		ctx = metadata.AppendToOutgoingContext(ctx, name, value)
	}
	var header metadata.MD
	resp, err := pb.NewGrpcEchoClient(conn).Echo(ctx, &pb.EchoRequest{}, grpc.Header(&header))
	if err != nil {
		return nil, err
	}
	got := seen{
		method: http.MethodPost, proto: "GRPC",
		url: resp.GetAssertions().GetFullyQualifiedMethod(), host: resp.GetAssertions().GetAuthority(),
		headers: http.Header{}, hostname: resp.GetAssertions().GetContext().GetPod(),
	}
	for _, h := range resp.GetAssertions().GetHeaders() {
		got.headers.Add(h.GetKey(), h.GetValue())
	}
	var body bytes.Buffer
	got.write(&body)
	return &answer{status: http.StatusOK, headers: http.Header(header), body: body.Bytes()}, nil
}
