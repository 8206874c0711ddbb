package h1

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

var update = flag.Bool("update", false, "write what was seen into testdata")

// The files in testdata hold cases. A case begins with "=== name" and has the
// bytes that are fed to the codec, then "--- out" and what came of it. Input
// lines end with CR LF, unless they end with a backslash, which stands for
// nothing; \r, \n, \t, \\ and \xNN mean what they mean in Go, and %500{text}
// repeats text 500 times. To add a case write its input and run
// go test -update, then read the difference.

type transcript struct{ name, in, out string }

func readTranscripts(t *testing.T, file string) []transcript {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []transcript
	for _, part := range strings.Split("\n"+string(raw), "\n=== ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		in, out, _ := strings.Cut(rest, "--- out\n")
		cases = append(cases, transcript{name, in, strings.TrimRight(out, "\n") + "\n"})
	}
	return cases
}

var repeated = regexp.MustCompile(`%(\d+)\{([^}]*)\}`)

// wire turns the input of a case into bytes.
func (c transcript) wire(t *testing.T) []byte {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(c.in, "\n"), "\n") {
		end := "\r\n"
		if strings.HasSuffix(line, `\`) && !strings.HasSuffix(line, `\\`) {
			line, end = line[:len(line)-1], ""
		}
		line = repeated.ReplaceAllStringFunc(line, func(m string) string {
			p := repeated.FindStringSubmatch(m)
			n, _ := strconv.Atoi(p[1])
			return strings.Repeat(p[2], n)
		})
		s, err := strconv.Unquote(`"` + strings.ReplaceAll(line, `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%s: line %q: %v", c.name, line, err)
		}
		b.WriteString(s + end)
	}
	return []byte(b.String())
}

var dates = regexp.MustCompile(`date: [^\r\n]*GMT`)

// show makes bytes from the wire readable; long runs are shortened.
func show(b string) string {
	b = dates.ReplaceAllString(b, "date: now")
	b = strings.ReplaceAll(b, "\r\n", "\n")
	if b != "" && !strings.HasSuffix(b, "\n") {
		b += "\\\n"
	}
	var out strings.Builder
	for _, r := range []byte(b) {
		if r == '\n' || r >= 0x20 && r < 0x7f {
			out.WriteByte(r)
		} else {
			fmt.Fprintf(&out, `\x%02x`, r)
		}
	}
	lines := strings.Split(out.String(), "\n")
	for i, l := range lines {
		if len(l) > 300 {
			lines[i] = fmt.Sprintf("%s... (%d)", l[:40], len(l))
		}
	}
	return strings.Join(lines, "\n")
}

// squeeze replaces runs of equal lines.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	var out []string
	for i := 0; i < len(lines); {
		n := 1
		for i+n < len(lines) && lines[i+n] == lines[i] {
			n++
		}
		out = append(out, lines[i])
		if n > 3 {
			out = append(out, fmt.Sprintf("(%d times)", n))
		} else {
			out = append(out, lines[i+1:i+n]...)
		}
		i += n
	}
	return strings.Join(out, "\n")
}

// feed writes b to c in pieces and tells when it is through.
func feed(c net.Conn, b []byte, piece int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for len(b) > 0 {
			n := min(piece, len(b))
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
	}()
	return done
}

// runTranscripts runs the cases of a file, with the input in one piece and in
// small ones: how it arrives must not matter. Time is virtual.
func runTranscripts(t *testing.T, file string, run func(in []byte, piece int) string) {
	path := filepath.Join("testdata", file)
	cases := readTranscripts(t, path)
	for i := range cases {
		c := &cases[i]
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			in := c.wire(t)
			for _, piece := range []int{len(in) + 1, 1, 7} {
				if piece < 8 && len(in) > 20000 {
					continue
				}
				var got string
				synctest.Test(t, func(*testing.T) { got = squeeze(strings.TrimRight(run(in, piece), "\n")) + "\n" })
				if *update && piece > len(in) {
					c.out = got
				} else if got != c.out {
					t.Errorf("in pieces of %d bytes: got\n%swant\n%s", piece, got, c.out)
				}
			}
		})
	}
	if *update {
		var b strings.Builder
		for _, c := range cases {
			fmt.Fprintf(&b, "=== %s\n%s--- out\n%s\n", c.name, c.in, c.out)
		}
		if err := os.WriteFile(path, []byte(strings.TrimSuffix(b.String(), "\n")), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// describe tells what a handler sees of a request.
func describe(x *exchange.Exchange) string {
	var b strings.Builder
	h := x.Request
	fmt.Fprintf(&b, "> %s %s %s", h.Method, h.Path, h.Version)
	if len(h.Authority) > 0 {
		fmt.Fprintf(&b, " authority=%s", h.Authority)
	}
	if h.AbsoluteForm {
		fmt.Fprintf(&b, " absolute scheme=%s", h.Scheme)
	}
	if h.ContentLength != 0 {
		fmt.Fprintf(&b, " length=%d", h.ContentLength)
	}
	if h.Upgrade {
		b.WriteString(" upgrade")
	}
	if h.ExpectContinue {
		b.WriteString(" expect")
	}
	b.WriteByte('\n')
	for _, f := range h.List {
		fmt.Fprintf(&b, ">   %s: %s\n", f.Name, f.Value)
	}
	return b.String()
}

// readAll reads a body to its end.
func readAll(b exchange.Body) (text string, trailers string, err error) {
	var s strings.Builder
	for !b.Ended() {
		f, err := b.Next()
		if err != nil {
			return s.String(), "", err
		}
		s.Write(f.Data)
		if f.Trailers != nil {
			for _, t := range f.Trailers.List {
				trailers += fmt.Sprintf("%s: %s\n", t.Name, t.Value)
			}
		}
	}
	return s.String(), trailers, nil
}

// TestRequests feeds requests to a server. The output is what the handler saw,
// after ">", then everything the server wrote.
func TestRequests(t *testing.T) {
	runTranscripts(t, "requests.txt", func(in []byte, piece int) string {
		ours, theirs := net.Pipe()
		fed := feed(theirs, in, piece)
		var seen strings.Builder
		h := exchange.HandlerFunc(func(x *exchange.Exchange) {
			seen.WriteString(describe(x))
			if string(x.Request.Path) != "/unread" && string(x.Request.Path) != "/close" {
				body, trailers, err := readAll(x.Body)
				if body != "" {
					seen.WriteString("> body " + show(body+"\r\n"))
				}
				if trailers != "" {
					seen.WriteString("> trailer " + show(trailers))
				}
				if err != nil {
					fmt.Fprintf(&seen, "> body error: %v\n", err)
				}
			}
			var r exchange.ResponseHead
			r.Status, r.ContentLength = 200, 2
			var b exchange.Body = &exchange.Bytes{Data: []byte("ok")}
			switch string(x.Request.Path) {
			case "/none":
				r.Status, r.ContentLength, b = 204, -1, exchange.Empty
			case "/cached":
				r.Status, r.ContentLength, b = 304, -1, exchange.Empty
				r.Add("Content-Length", "77")
			case "/unknown":
				r.ContentLength = -1
			case "/gzip", "/identity", "/gzip,chunked":
				// As a server said it whose body lasted until its end.
				r.ContentLength = -1
				r.Add("Transfer-Encoding", string(x.Request.Path[1:]))
			case "/head":
				r.ContentLength, b = 1234, exchange.Empty
				r.Add("Content-Length", "1234")
			case "/close":
				x.CloseAfter()
			case "/date":
				r.Add("Date", "yesterday")
			}
			x.Respond(&r, b)
		})
		var wrote strings.Builder
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 4096)
			for {
				// The client has said all it had to when the server
				// waits: it closes.
				theirs.SetReadDeadline(time.Now().Add(time.Minute))
				n, err := theirs.Read(b)
				wrote.Write(b[:n])
				if err != nil {
					theirs.Close()
					return
				}
			}
		}()
		err := Serve(ours, h, ServerOptions{})
		<-done
		<-fed
		if err != nil {
			fmt.Fprintf(&seen, "> ends: %v\n", err)
		}
		return show(seen.String()) + show(wrote.String())
	})
}

// TestResponses feeds responses to a client. The first line of the input is the
// request's method and version, with "upgrade" if it asks for one. The output is
// what the caller of RoundTrip saw.
func TestResponses(t *testing.T) {
	runTranscripts(t, "responses.txt", func(in []byte, piece int) string {
		first, rest, _ := strings.Cut(string(in), "\r\n")
		words := strings.Fields(first)
		req := &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte(words[0]), Path: []byte("/")}
		if words[1] == "HTTP/1.0" {
			req.Version = exchange.HTTP10
		}
		req.Upgrade = len(words) > 2 || words[0] == "CONNECT"
		ours, theirs := net.Pipe()
		sent := make(chan struct{})
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			// The whole request is taken before the response begins.
			b := make([]byte, 4096)
			theirs.Read(b)
			close(sent)
			<-feed(theirs, []byte(rest), piece)
			theirs.Close()
		}()
		var seen strings.Builder
		reused := "not released"
		c := NewConn(ours, ClientOptions{Released: func(c *Conn, reusable bool) {
			reused = "closed"
			if reusable {
				reused = "reusable"
			}
		}})
		resp, err := c.RoundTrip(nil, req, exchange.Empty)
		if err != nil {
			fmt.Fprintf(&seen, "error: %v\nconnection %s\n", err, reused)
			ours.Close()
			<-fed
			return show(seen.String())
		}
		h := &resp.Head
		fmt.Fprintf(&seen, "%s %d length=%d\n", h.Version, h.Status, h.ContentLength)
		for _, f := range h.List {
			fmt.Fprintf(&seen, "  %s: %s\n", f.Name, f.Value)
		}
		if resp.Upgraded != nil {
			b, _ := io.ReadAll(resp.Upgraded)
			fmt.Fprintf(&seen, "upgraded, then %s", show(string(b)+"\r\n"))
			resp.Upgraded.Close()
		}
		body, trailers, err := readAll(resp.Body)
		if body != "" {
			seen.WriteString("body " + show(body+"\r\n"))
		}
		if trailers != "" {
			seen.WriteString("trailer " + show(trailers))
		}
		if err != nil {
			fmt.Fprintf(&seen, "body error: %v\n", err)
		}
		resp.Close()
		fmt.Fprintf(&seen, "connection %s\n", reused)
		ours.Close()
		<-fed
		return show(seen.String())
	})
}
