package tracing

import (
	"bytes"
	"testing"
)

// TestSpansAreText: a collector refuses a whole batch if one request had other bytes
// than UTF-8 in its path.
func TestSpansAreText(t *testing.T) {
	spans := []Span{{Name: "/\xff", Failed: true, Message: "m\xff", Attributes: []Attribute{{Key: "url.path", Value: "/\xff"}}}}
	for name, b := range map[string][]byte{"OTLP": encode(nil, spans), "OpenCensus": encodeOpenCensus(nil, spans)} {
		if bytes.Contains(b, []byte("/\xff")) || bytes.Contains(b, []byte("m\xff")) || bytes.Count(b, []byte("/\uFFFD")) != 2 {
			t.Errorf("%s: %q", name, b)
		}
	}
}
