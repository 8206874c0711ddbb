package biaser

import (
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func TestClassify(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status    int
		fields    [][2]string
		hint      time.Duration
		penalised bool
	}{
		{200, nil, 0, false},
		{404, nil, 0, false},
		{429, nil, 0, true},
		{503, nil, 0, true},
		{500, [][2]string{{"retry-after", "3"}}, 0, true},
		{429, [][2]string{{"retry-after", "3"}}, 3 * time.Second, true},
		{503, [][2]string{{"Retry-After", "Sat, 21 Nov 2026 00:01:00 GMT"}}, time.Minute, true},
		{503, [][2]string{{"retry-after", "Fri, 20 Nov 2026 00:01:00 GMT"}}, 0, true},
		{503, [][2]string{{"retry-after", "Sat Nov 21 00:00:05 2026"}}, 5 * time.Second, true},
		{503, [][2]string{{"retry-after", "soon"}}, 0, true},
		{200, [][2]string{{"grpc-status", "8"}}, 0, false},
		{200, [][2]string{{"content-type", "application/grpc+proto"}, {"grpc-status", "8"}, {"grpc-retry-pushback-ms", "250"}}, 250 * time.Millisecond, true},
		{200, [][2]string{{"content-type", "application/grpc"}, {"grpc-status", "14"}, {"grpc-retry-pushback-ms", "-1"}}, 0, true},
		{200, [][2]string{{"content-type", "application/grpc"}, {"grpc-status", "13"}}, 0, true},
		{200, [][2]string{{"content-type", "application/grpc"}, {"grpc-status", "5"}}, 0, false},
		{200, [][2]string{{"content-type", "application/grpc"}}, 0, false},
	} {
		h := exchange.ResponseHead{Status: c.status}
		for _, f := range c.fields {
			h.Add(f[0], f[1])
		}
		if hint, p := Classify(&h, now); hint != c.hint || p != c.penalised {
			t.Errorf("%d %v: %v, %v", c.status, c.fields, hint, p)
		}
	}
}
