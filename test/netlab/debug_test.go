package netlab_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/debug/capture"
	"github.com/linkerd-go/linkerd-go/debug/capturecmd"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// debugName is what the debug container's program is called; without arguments it watches, and with some it captures.
const debugName = "linkerd-debug"

func debugRun(ctx context.Context, args, _ []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	if len(args) == 0 {
		return capturecmd.Watch(ctx, stdout, stderr)
	}
	return capturecmd.Run(ctx, args, stdout, stderr)
}

// A debugger is a running one.
type debugger struct {
	cmd         *exec.Cmd
	out, stderr *bufio.Reader
	wait        func() error
}

// startDebug starts the program as a user, and waits until the first line of its log says want.
func startDebug(t *testing.T, user netlab.User, want string, argv ...string) *debugger {
	t.Helper()
	// The limit is for a program that never says what is waited for.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	// Pipes of our own: those of the package end with the program's exit, read or not.
	out, toOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	diag, toDiag, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close(); diag.Close() })
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Args[0] = debugName
	cmd.Stdout, cmd.Stderr = toOut, toDiag
	wait, err := user.Start(cmd)
	toOut.Close()
	toDiag.Close()
	if err != nil {
		t.Fatal(err)
	}
	d := &debugger{cmd: cmd, out: bufio.NewReader(out), stderr: bufio.NewReader(diag), wait: wait}
	line, err := d.stderr.ReadString('\n')
	if err != nil || !strings.Contains(line, want) {
		t.Fatalf("it begins with %q (%v), want %q", line, err, want)
	}
	return d
}

// until reads lines to the first that has all the words.
func (d *debugger) until(t *testing.T, words ...string) string {
	t.Helper()
	var seen strings.Builder
next:
	for {
		line, err := d.out.ReadString('\n')
		if err != nil {
			t.Fatalf("no line has %q: %v\n%s", words, err, seen.String())
		}
		seen.WriteString(line)
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		return line
	}
}

// stop asks it to end, as a kubelet does.
func (d *debugger) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// askPeer is a request of the pod and the answer of its peer.
func askPeer(t *testing.T, lab *netlab.Lab, address string) {
	t.Helper()
	l := lab.Peer.Listen(t, "tcp", address)
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.ReadFull(c, make([]byte, len(shopRequest)))
		}
		if err == nil {
			_, err = io.WriteString(c, "HTTP/1.1 404 Not Found\r\n\r\n")
		}
		served <- err
	}()
	c, err := lab.Pod.Root().Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, shopRequest); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || len(answer) == 0 {
		t.Fatalf("answer %q: %v", answer, err)
	}
}

const shopRequest = "GET /cart?token=secret HTTP/1.1\r\nHost: shop\r\n\r\n"

// TestDebugContainerShowsPackets watches a connection of a pod as the container's main process does.
func TestDebugContainerShowsPackets(t *testing.T) {
	lab := netlab.New(t)
	for _, address := range []string{net.JoinHostPort(netlab.PeerIPv4.String(), "8080"), net.JoinHostPort(netlab.PeerIPv6.String(), "8080")} {
		d := startDebug(t, lab.Pod.Root(), "capturing on all interfaces", "/proc/self/exe")
		askPeer(t, lab, address)
		d.until(t, " eth0 out ", "> "+address+" tcp SYN len 0")
		d.until(t, " eth0 in ", address+" > ", "tcp SYN,ACK len 0")
		if line := d.until(t, " eth0 out ", "HTTP GET /cart?... HTTP/1.1 host=shop"); strings.Contains(line, "secret") {
			t.Errorf("a query is shown: %s", line)
		}
		d.until(t, " eth0 in ", "HTTP/1.1 404 Not Found")
		d.stop(t)
	}
}

// TestCaptureWritesPackets: what is chosen is written in the format of other programs, and ends at the count.
func TestCaptureWritesPackets(t *testing.T) {
	lab := netlab.New(t)
	address := net.JoinHostPort(netlab.PeerIPv4.String(), "8080")
	d := startDebug(t, lab.Pod.Root(), "capturing on eth0", "/proc/self/exe", "-i", "eth0", "-w", "-", "-c", "2", "dst port 8080 and tcp and payload or src port 8080 and payload")
	askPeer(t, lab, address)
	if err := d.wait(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(d.out)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 24 || binary.LittleEndian.Uint32(got) != 0xa1b23c4d || binary.LittleEndian.Uint32(got[20:]) != 276 {
		t.Fatalf("not the head of a capture with nanoseconds and cooked headers: %x", got)
	}
	got = got[24:]
	for _, want := range []struct {
		kind    byte // of struct sockaddr_ll
		payload string
	}{{unix.PACKET_OUTGOING, shopRequest}, {unix.PACKET_HOST, "HTTP/1.1 404 Not Found\r\n\r\n"}} {
		if len(got) < 16 {
			t.Fatal("a packet is missing")
		}
		length := int(binary.LittleEndian.Uint32(got[8:]))
		if wire := int(binary.LittleEndian.Uint32(got[12:])); wire != length || len(got) < 16+length {
			t.Fatalf("a packet of %d bytes, %d on the wire; there are %d", length, wire, len(got)-16)
		}
		if age := time.Since(time.Unix(int64(binary.LittleEndian.Uint32(got)), 0)); age < -time.Minute || age > time.Hour {
			t.Errorf("the time of the packet is %v from now", age)
		}
		packet := got[16 : 16+length]
		if binary.BigEndian.Uint16(packet) != unix.ETH_P_IP || packet[10] != want.kind || packet[20] != 0x45 || !bytes.HasSuffix(packet, []byte(want.payload)) {
			t.Errorf("packet %x, want kind %d and payload %q", packet, want.kind, want.payload)
		}
		got = got[16+length:]
	}
	if len(got) > 0 {
		t.Errorf("more than two packets: %x", got)
	}
}

// TestDebugContainerWithoutCapability: a pod is not restarted because its container may not capture.
func TestDebugContainerWithoutCapability(t *testing.T) {
	lab := netlab.New(t)
	d := startDebug(t, lab.Pod.As(65534, 65534), "capturing needs the capability NET_RAW", "/proc/self/exe")
	d.stop(t)
}

// TestDebugContainerIsMarked: the mark of the program's file, which the image has, lets it capture as any user.
func TestDebugContainerIsMarked(t *testing.T) {
	lab := netlab.New(t)
	d := startDebug(t, lab.Pod.As(65534, 65534), "capturing on all interfaces", markedBinary(t, capture.FileCapability))
	askPeer(t, lab, net.JoinHostPort(netlab.PeerIPv4.String(), "8080"))
	d.until(t, " eth0 out ", "HTTP GET /cart?...")
	d.stop(t)
}
