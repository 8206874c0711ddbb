package detect

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestHTTP reads testdata/http.txt: each line is a quoted Go string of the
// first bytes and the decision.
func TestHTTP(t *testing.T) {
	f, err := os.Open("testdata/http.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		in, _ := strconv.Unquote(quoted)
		want := strings.TrimSpace(line[len(quoted):])
		if got := HTTP([]byte(in)).String(); got != want {
			t.Errorf("line %d: %s is %s, want %s", n, quoted, got, want)
		}
	}
}

// hello is what crypto/tls sends for the configuration.
func hello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, cfg).Handshake()
		client.Close()
	}()
	buf := make([]byte, MaxHello)
	n, err := server.Read(buf)
	server.Close()
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestClientHello(t *testing.T) {
	named := hello(t, &tls.Config{ServerName: "Web.ns.serviceaccount.identity.linkerd.cluster.local"})
	anonymous := hello(t, &tls.Config{InsecureSkipVerify: true})
	edit := func(b []byte, at int, x byte) []byte {
		b = bytes.Clone(b)
		b[at] = x
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		want Hello
		sni  string
	}{
		{"nothing", nil, More, ""},
		{"named", named, TLS, "web.ns.serviceaccount.identity.linkerd.cluster.local"},
		{"named and more", append(bytes.Clone(named), 1, 2, 3), TLS, "web.ns.serviceaccount.identity.linkerd.cluster.local"},
		{"no name", anonymous, TLS, ""},
		{"one byte", named[:1], More, ""},
		{"all but one byte", named[:len(named)-1], More, ""},
		{"http", []byte("GET / HTTP/1.1\r\n"), NotTLS, ""},
		{"alert record", edit(named, 0, 0x15), NotTLS, ""},
		{"major version", edit(named, 1, 0x02), NotTLS, ""},
		{"minor version", edit(named, 2, 0x04), NotTLS, ""},
		{"server hello", edit(named, 5, 0x02), NotTLS, ""},
		{"huge message", edit(named, 6, 0x01), NotTLS, ""},
		{"legacy version", edit(named, 10, 0x02), NotTLS, ""},
		{"record too long", edit(named, 3, 0x40), NotTLS, ""},
		{"message longer than record", edit(named, 7, 0x7f), NotTLS, ""},
		{"session id runs over", edit(named, 5+4+34, 0xff), NotTLS, ""},
	} {
		got, sni := ClientHello(c.in)
		if got != c.want || sni != c.sni {
			t.Errorf("%s: got %v %q, want %v %q", c.name, got, sni, c.want, c.sni)
		}
	}
}

// Whatever arrives, a decision once made must not be taken back by more bytes.
func FuzzClientHello(f *testing.F) {
	f.Add(hello(f, &tls.Config{ServerName: "a.b"}))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, name := ClientHello(b)
		for i := range b {
			part, partName := ClientHello(b[:i])
			if part != More && (part != whole || partName != name) {
				t.Fatalf("%d bytes: %v %q, %d bytes: %v %q", i, part, partName, len(b), whole, name)
			}
		}
	})
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte(preface))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := HTTP(b); got == Undecided && len(b) >= minHTTP {
			t.Fatal("undecided with enough bytes")
		}
	})
}
