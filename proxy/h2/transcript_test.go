package h2

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	xhttp2 "golang.org/x/net/http2"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

var update = flag.Bool("update", false, "write what was seen into testdata")

// testdata/server.txt holds conversations with a server whose handler echoes
// the request's body. A case begins with "=== name"; the client's commands stand
// before "--- out", what the server sent and how the connection ended after it.
// To add a case write its commands and run go test -update, then read the
// difference. The commands, one a line:
//
//	headers STREAM [end] [part] NAME=VALUE...   HEADERS; part leaves out END_HEADERS
//	get STREAM                                  a GET for /, with the end of the stream
//	post STREAM [NAME=VALUE...]                 a POST for /, without
//	continuation STREAM [part] NAME=VALUE...
//	trailers STREAM NAME=VALUE...               HEADERS with the end, no pseudo-headers
//	data STREAM SIZE [end] [pad=N]
//	reset STREAM CODE
//	window STREAM N
//	settings [ID=N...]
//	settings-ack
//	ping | ping-ack | goaway CODE
//	priority STREAM DEPENDS-ON
//	raw HEX                                     any bytes, blanks ignored
//
// In a VALUE \s is a blank.
//
// The server has acted on a command before the next is written.
func runScript(p *peer, script string) {
	for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		num := func(i int) uint32 {
			n, err := strconv.ParseUint(w[i], 0, 32)
			if err != nil {
				p.t.Fatalf("line %q: %v", line, err)
			}
			return uint32(n)
		}
		var fields []string
		flags := map[string]bool{}
		pad := -1
		for _, x := range w[1:] {
			if n, ok := strings.CutPrefix(x, "pad="); ok {
				pad, _ = strconv.Atoi(n)
			} else if i := strings.LastIndex(x, "="); i > 0 {
				fields = append(fields, x[:i], strings.ReplaceAll(x[i+1:], `\s`, " "))
			} else {
				flags[x] = true
			}
		}
		request := func(method string) []string {
			return append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", "/"}, fields...)
		}
		switch w[0] {
		case "headers":
			p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: num(1), EndStream: flags["end"], EndHeaders: !flags["part"], BlockFragment: p.block(fields...)})
		case "get":
			p.headers(num(1), true, request("GET")...)
		case "post":
			p.headers(num(1), false, request("POST")...)
		case "trailers":
			p.headers(num(1), true, fields...)
		case "continuation":
			p.fr.WriteContinuation(num(1), !flags["part"], p.block(fields...))
		case "data":
			var padding []byte
			if pad >= 0 {
				padding = make([]byte, pad)
			}
			p.fr.WriteDataPadded(num(1), flags["end"], make([]byte, num(2)), padding)
		case "reset":
			p.fr.WriteRSTStream(num(1), xhttp2.ErrCode(num(2)))
		case "window":
			p.fr.WriteRawFrame(xhttp2.FrameWindowUpdate, 0, num(1), binary.BigEndian.AppendUint32(nil, num(2)))
		case "settings":
			var s []byte
			for i := 0; i < len(fields); i += 2 {
				id, _ := strconv.Atoi(fields[i])
				v, _ := strconv.ParseUint(fields[i+1], 0, 32)
				s = binary.BigEndian.AppendUint16(s, uint16(id))
				s = binary.BigEndian.AppendUint32(s, uint32(v))
			}
			p.fr.WriteRawFrame(xhttp2.FrameSettings, 0, 0, s)
		case "settings-ack":
			p.fr.WriteSettingsAck()
		case "ping":
			p.fr.WritePing(false, [8]byte{})
		case "ping-ack":
			p.fr.WritePing(true, [8]byte{})
		case "goaway":
			p.fr.WriteGoAway(0, xhttp2.ErrCode(num(1)), nil)
		case "priority":
			p.fr.WriteRawFrame(xhttp2.FramePriority, 0, num(1), append(binary.BigEndian.AppendUint32(nil, num(2)), 0))
		case "raw":
			b, err := hex.DecodeString(strings.Join(w[1:], ""))
			if err != nil {
				p.t.Fatalf("line %q: %v", line, err)
			}
			p.nc.Write(b)
		default:
			p.t.Fatalf("unknown command %q", line)
		}
		synctest.Wait() // what comes of it, before the next
	}
}

// echoBack answers with the request's body.
func echoBack(x *exchange.Exchange) {
	h := exchange.ResponseHead{Status: 200, ContentLength: x.Request.ContentLength}
	if x.Body.Ended() {
		x.Respond(&h, exchange.Empty)
		return
	}
	x.Respond(&h, x.Body)
}

func TestServerConversations(t *testing.T) {
	const file = "testdata/server.txt"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var written strings.Builder
	for _, part := range strings.Split("\n"+string(raw), "\n=== ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		script, want, _ := strings.Cut(rest, "--- out\n")
		want = strings.TrimRight(want, "\n")
		got := ""
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				s := NewServer(ours, exchange.HandlerFunc(echoBack), nil, Options{})
				done := make(chan error, 1)
				go func() { done <- s.Serve() }()
				p := newPeer(t, theirs, true)
				io.WriteString(theirs, Preface)
				p.fr.WriteSettings()
				p.take()
				runScript(p, script)
				got = p.take()
				theirs.Close()
				if err := <-done; err != nil {
					got += fmt.Sprintf("\nerror: %v", err)
				}
				<-p.stop
			})
			got = strings.TrimSpace(got)
			if got != want && !*update {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
		fmt.Fprintf(&written, "=== %s\n%s--- out\n%s\n\n", name, script, got)
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.TrimRight(written.String(), "\n")+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
