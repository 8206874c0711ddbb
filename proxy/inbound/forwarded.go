package inbound

import (
	"net/netip"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// ForwardedFor is how the application is told its clients' addresses, which it
// cannot see, for its connections are the proxy's. None of it is upstream's.
type ForwardedFor string

const (
	// ForwardedForNone leaves x-forwarded-for as clients send it, also if they
	// make it up.
	ForwardedForNone ForwardedFor = ""
	// ForwardedForAppend adds the client to what it says itself of those before
	// it: the last entry is true, the others are as good as who sent them.
	ForwardedForAppend ForwardedFor = "append"
	// ForwardedForReplace tells of the client alone.
	ForwardedForReplace ForwardedFor = "replace"
)

const forwardedForHeader = "x-forwarded-for"

var forwardedForName = []byte(forwardedForHeader)

// apply tells of the client in the head.
func (f ForwardedFor) apply(head *exchange.RequestHead, client netip.Addr) {
	if f == ForwardedForNone || !client.IsValid() {
		return
	}
	var room [256]byte
	value := room[:0]
	if f == ForwardedForAppend {
		for i := range head.List {
			if e := &head.List[i]; e.Is(forwardedForHeader) && len(e.Value) > 0 {
				value = append(append(value, e.Value...), ", "...)
			}
		}
	}
	value = client.Unmap().WithZone("").AppendTo(value)
	head.Del(forwardedForHeader)
	head.AddBytes(forwardedForName, head.KeepBytes(value))
}
