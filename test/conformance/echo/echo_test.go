package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	suite "sigs.k8s.io/gateway-api/conformance/utils/echo"
)

// output is a log that a test can read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start serves on ports that are free and returns their addresses: HTTP, TLS, gRPC, TCP.
func start(t *testing.T) [4]string {
	t.Helper()
	var ports [4]string
	var held []net.Listener
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
	}
	for _, l := range held {
		l.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	log := new(output)
	go func() {
		done <- serve(ctx, []string{"--tcp=" + ports[3], "--port=" + ports[0], "--grpc=" + ports[2], "--port=" + ports[1],
			"--tls=" + ports[1], "--crt=/cert.crt", "--key=/cert.key"}, log)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	deadline := time.After(time.Minute)
	for strings.Count(log.String(), "listening") < len(ports) {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("server: %v", err)
		case <-deadline:
			t.Fatal("the server does not start")
		case <-time.After(time.Millisecond):
		}
	}
	for i, p := range ports {
		ports[i] = "127.0.0.1:" + p
	}
	return ports
}

// The client's output has to be what the suite parses.
func TestSuiteUnderstands(t *testing.T) {
	addrs := start(t)
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		url    string
		method string
	}{
		{[]string{"http://" + addrs[0] + "/a?b=c", "--method=PUT", "-H", "X-One:1", "-H", "Host:other"}, "/a?b=c", "PUT"},
		{[]string{"https://" + addrs[1] + "/s", "-H", "X-One:1", "-H", "Host:other"}, "/s", "GET"},
		{[]string{"grpc://" + addrs[2], "-H", "X-One:1"}, "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo", "POST"},
	} {
		var out bytes.Buffer
		if err := send(t.Context(), c.args, &out); err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		got := suite.ParseResponse(out.String())
		host := "other"
		if strings.HasPrefix(c.args[0], "grpc") {
			host = addrs[2]
		}
		if got.Code != "200" || got.Hostname != hostname || got.Host != host || got.URL != c.url || got.Method != c.method ||
			got.RequestHeaders.Get("X-One") != "1" {
			t.Errorf("%v: the suite understands %+v", c.args, got)
		}
	}
}

func TestBatch(t *testing.T) {
	addrs := start(t)
	for _, target := range []string{"http://" + addrs[0], "grpc://" + addrs[2]} {
		var out bytes.Buffer
		if err := send(t.Context(), []string{target, "--count=3"}, &out); err != nil {
			t.Fatal(err)
		}
		// The suite splits answers at empty lines.
		answers := strings.Split(strings.TrimSpace(out.String()), "\n\n")
		if len(answers) != 3 || !regexp.MustCompile(`(?m)^\[2\] StatusCode=200$`).MatchString(answers[2]) {
			t.Errorf("%s: got %q", target, out.String())
		}
	}
}

func TestRedirectsAreShown(t *testing.T) {
	u, err := url.Parse("http://a/b")
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{status: 302, headers: http.Header{"Location": {"http://c/d"}}, body: []byte("one\n\ntwo\n")}
	var out bytes.Buffer
	a.write(&out, 4, u)
	const want = "[4] Url=http://a/b\n[4] StatusCode=302\n[4] ResponseHeader=Location:http://c/d\n[4 body] one\n[4 body] two\n\n"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		run  func(context.Context, []string) error
		args []string
		want string
	}{
		{func(ctx context.Context, a []string) error { return send(ctx, a, new(bytes.Buffer)) }, nil, "the first argument has to be a URL"},
		{func(ctx context.Context, a []string) error { return send(ctx, a, new(bytes.Buffer)) }, []string{"ftp://a"}, "ftp://a: the scheme has to be http, https or grpc"},
		{func(ctx context.Context, a []string) error { return serve(ctx, a, new(bytes.Buffer)) }, []string{"--port=many"}, `"many" is not a port`},
	} {
		if err := c.run(t.Context(), c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.args, err, c.want)
		}
	}
}

// Pods without ports stay until they are told to stop.
func TestNoPorts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, nil, new(bytes.Buffer)) }()
	select {
	case err := <-done:
		t.Fatalf("ended by itself: %v", err)
	default:
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
