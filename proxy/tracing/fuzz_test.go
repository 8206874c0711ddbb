package tracing

import (
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// FuzzContext: whatever clients put into trace headers, what is passed on has the
// same trace and is read again.
func FuzzContext(f *testing.F) {
	f.Add("00-"+traceID+"-"+spanID+"-01", "", "", "", "")
	f.Add("", grpcBin, "", "", "")
	f.Add("", "", traceID, spanID, "1")
	f.Add("", "", traceID[16:], spanID, "0")
	f.Fuzz(func(t *testing.T, w3c, grpc, trace, span, sampled string) {
		var h exchange.Fields
		for name, v := range map[string]string{
			"traceparent": w3c, "grpc-trace-bin": grpc, "x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": sampled,
		} {
			if v != "" {
				h.Add(name, v)
			}
		}
		c, ok := extract(&h)
		if !ok {
			return
		}
		id := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
		c.inject(&h, id)
		if again, ok := extract(&h); !ok || again.trace != c.trace || again.parent != id || again.sampled != c.sampled {
			t.Errorf("%+v became %+v, %v", c, again, ok)
		}
	})
}
