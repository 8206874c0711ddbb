package integration

import (
	"net"
	"strings"
	"testing"
)

// TestPeersThatGoAway: that a client resets its connection is counted, and told only
// to who asks for debugging.
func TestPeersThatGoAway(t *testing.T) {
	m := newMesh(t, viaProxy)
	for _, addr := range []string{m.inAddr, m.outAddr} {
		c := m.dial(addr).(*net.TCPConn)
		_ = c.SetLinger(0)
		c.Close()
	}
	m.wants(m.in.reg, `inbound_tcp_errors_total{error="i/o",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080"} 1`)
	m.wants(m.out.reg, `outbound_tcp_errors_total{target_addr="10.96.0.1:80",target_ip="10.96.0.1",target_port="80",error="i/o"} 1`)
	m.says("Connection closed")
	for line := range strings.Lines(m.log.String()) {
		if strings.Contains(line, "Connection closed") && !strings.Contains(line, "DEBUG") {
			t.Errorf("told to everybody: %s", line)
		}
	}
}
