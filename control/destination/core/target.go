package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// defaultPort is the port of a path that names none.
const defaultPort = 80

// SplitPath splits the path of a request into host and port. A path without a colon has port 80; an IPv6 address needs
// brackets.
func SplitPath(path string) (host string, port uint16, err error) {
	if !strings.Contains(path, ":") {
		return path, defaultPort, nil
	}
	host, text, err := net.SplitHostPort(path)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return "", 0, fmt.Errorf("invalid port %s", text)
	}
	return host, uint16(number), nil
}

// Name is a DNS name of a Service, or of one of its instances.
type Name struct {
	Service ID
	// Instance is the hostname of one pod, empty for all of the Service.
	Instance string
}

// ParseName reads `<svc>.<ns>.svc.<cluster domain>` or `<hostname>.<svc>.<ns>.svc.<cluster domain>`, label for label.
func ParseName(host, clusterDomain string) (Name, error) {
	rest, found := strings.CutSuffix(host, ".svc."+clusterDomain)
	if !found {
		return Name{}, fmt.Errorf("name %s does not end in svc.%s", host, clusterDomain)
	}
	parts := strings.Split(rest, ".")
	if slices.Contains(parts, "") {
		return Name{}, fmt.Errorf("name %s has an empty label", host)
	}
	switch len(parts) {
	case 2:
		return Name{Service: ID{Namespace: parts[1], Name: parts[0]}}, nil
	case 3:
		return Name{Service: ID{Namespace: parts[2], Name: parts[1]}, Instance: parts[0]}, nil
	}
	return Name{}, fmt.Errorf("name %s is not that of a service", host)
}

// ParseAddr reads a host that is an IP address. An IPv4 address in IPv6 form counts as IPv4.
func ParseAddr(host string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// Token is what a client says about itself. All of it may be empty.
type Token struct {
	Namespace string `json:"ns"`
	Node      string `json:"nodeName"`
	Pod       string `json:"pod"`
}

// ErrLegacyToken comes with a token in the form that very old proxies send; the token is good.
var ErrLegacyToken = errors.New("context token has the legacy form ns:<namespace>")

// ParseToken reads a context token. With any error but ErrLegacyToken the token is empty; a request goes on without one.
func ParseToken(text string) (Token, error) {
	if text == "" {
		return Token{}, nil
	}
	var token Token
	err := json.Unmarshal([]byte(text), &token)
	if err == nil {
		return token, nil
	}
	if parts := strings.Split(text, ":"); len(parts) == 2 && parts[0] == "ns" {
		return Token{Namespace: parts[1]}, ErrLegacyToken
	}
	return Token{}, fmt.Errorf("context token %q: %w", text, err)
}
