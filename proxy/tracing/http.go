package tracing

import (
	"context"
	"fmt"
	"net"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
)

// httpPath is where collectors take OTLP over HTTP (OpenTelemetry protocol 1.3,
// section OTLP/HTTP).
const httpPath = "/v1/traces"

// OTLPHTTP exports over HTTP/1.1 to a collector that dial connects to and that is
// called authority. A batch every ten seconds is not worth a connection that is
// kept.
func OTLPHTTP(dial func(context.Context) (net.Conn, error), authority string) Exporter {
	return func(ctx context.Context, resource []Attribute, spans []Span) error {
		nc, err := dial(ctx)
		if err != nil {
			return err
		}
		conn := h1.NewConn(nc, h1.ClientOptions{})
		defer conn.Close()
		var canceler exchange.Canceler
		defer context.AfterFunc(ctx, func() { canceler.Cancel(context.Cause(ctx)) })()
		return post(&canceler, conn, authority, encode(resource, spans))
	}
}

// post sends a batch and reads the response to its end.
func post(c *exchange.Canceler, conn *h1.Conn, authority string, batch []byte) error {
	head := &exchange.RequestHead{
		Version: exchange.HTTP11, Method: []byte("POST"), Path: []byte(httpPath), ContentLength: int64(len(batch)),
	}
	head.Add("host", authority)
	head.Add("content-type", "application/x-protobuf")
	head.Add("connection", "close")
	resp, err := conn.RoundTrip(c, head, &exchange.Bytes{Data: batch})
	if err != nil {
		return err
	}
	defer resp.Close()
	status := resp.Head.Status
	// Nothing is wanted of the body.
	for n := 0; !resp.Body.Ended() && n < 64<<10; {
		f, err := resp.Body.Next()
		if err != nil || f.End {
			break
		}
		n += len(f.Data)
	}
	if status < 200 || status > 299 {
		return fmt.Errorf("collector answered with status %d", status)
	}
	return nil
}
