package classify

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func fields(s string) exchange.Fields {
	var f exchange.Fields
	for _, w := range strings.Fields(s) {
		n, v, _ := strings.Cut(w, "=")
		f.Add(n, v)
	}
	return f
}

func TestClassify(t *testing.T) {
	classes := []model.ResponseClass{
		{Condition: model.ResponseMatch{Op: model.OpStatus, Status: model.StatusRange{Min: 404, Max: 404}}, Failure: true},
		{Condition: model.ResponseMatch{Op: model.OpStatus, Status: model.StatusRange{Min: 400, Max: 503}}, Failure: false},
	}
	const grpc = "content-type=application/grpc+proto"
	for _, c := range []struct {
		status         int
		head, trailers string
		classes        []model.ResponseClass
		err            error
		want           Class
	}{
		{200, "", "", nil, nil, Class{Outcome: breaker.Success}},
		{404, "", "", nil, nil, Class{Outcome: breaker.Success}},
		{429, "", "", nil, nil, Class{Outcome: breaker.RateLimited}},
		{500, "", "", nil, nil, Class{Failure: true, Outcome: breaker.Failure}},
		{599, "", "", nil, nil, Class{Failure: true, Outcome: breaker.Failure}},
		{600, "", "", nil, nil, Class{Outcome: breaker.Success}},
		{200, "grpc-status=14", "", nil, nil, Class{Outcome: breaker.Success}},
		{200, grpc, "grpc-status=0", nil, nil, Class{GRPC: "0", Outcome: breaker.Success}},
		{200, grpc, "grpc-status=2", nil, nil, Class{GRPC: "2", Failure: true, Outcome: breaker.Failure}},
		{200, grpc, "grpc-status=5", nil, nil, Class{GRPC: "5", Outcome: breaker.Success}},
		{200, grpc, "grpc-status=7", nil, nil, Class{GRPC: "7", Failure: true, Outcome: breaker.Failure}},
		{200, grpc, "grpc-status=8", nil, nil, Class{GRPC: "8", Outcome: breaker.RateLimited}},
		{200, grpc + " grpc-status=14", "", nil, nil, Class{GRPC: "14", Failure: true, Outcome: breaker.Failure}},
		{200, grpc, "", nil, nil, Class{GRPC: "2", Outcome: breaker.Success}},
		{200, grpc, "grpc-status=99", nil, nil, Class{GRPC: "99", Outcome: breaker.Success}},
		{404, "", "", classes, nil, Class{Failure: true, Outcome: breaker.Failure}},
		{503, "", "", classes, nil, Class{Outcome: breaker.Success}},
		{504, "", "", classes, nil, Class{Failure: true, Outcome: breaker.Failure}},
		{200, "", "", nil, fmt.Errorf("x: %w", &exchange.ResetError{Code: exchange.CodeRefusedStream, Remote: true}), Class{Failure: true, Error: "h2(REFUSED_STREAM)", Outcome: breaker.Failure}},
		// Each code of a client that makes them up would be a series of its own.
		{200, "", "", nil, &exchange.ResetError{Code: 0xdeadbeef, Remote: true}, Class{Failure: true, Error: "h2(UNKNOWN)", Outcome: breaker.Failure}},
		{200, "", "", nil, &deadline.Error{Kind: deadline.Request, Limit: time.Second}, Class{Failure: true, Error: "timeout", Outcome: breaker.Failure}},
		{200, "", "", nil, errors.New("broken pipe"), Class{Failure: true, Error: "unclassified", Outcome: breaker.Failure}},
		// A client that leaves in the middle: the head is what counts.
		{200, "", "", nil, fmt.Errorf("read: %w", exchange.ErrClientGone), Class{Outcome: breaker.Unknown}},
		{503, "", "", nil, fmt.Errorf("read: %w", exchange.ErrClientGone), Class{Failure: true, Outcome: breaker.Unknown}},
		{200, grpc, "", nil, fmt.Errorf("read: %w", exchange.ErrClientGone), Class{GRPC: "2", Outcome: breaker.Unknown}},
		{0, "", "", nil, fmt.Errorf("read: %w", exchange.ErrClientGone), Class{Failure: true, Error: "unclassified", Outcome: breaker.Unknown}},
	} {
		head := exchange.ResponseHead{Status: c.status, Fields: fields(c.head)}
		trailers := fields(c.trailers)
		if got := Start(&head, c.classes).End(&trailers, c.err); got != c.want {
			t.Errorf("%d %s %s %v: %+v, want %+v", c.status, c.head, c.trailers, c.err, got, c.want)
		}
	}
}
