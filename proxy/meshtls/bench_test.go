package meshtls_test

import (
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// BenchmarkHandshake is both sides of a mutual handshake over a pipe.
func BenchmarkHandshake(b *testing.B) {
	ca := testca.New(b)
	client, server := ca.Store(b, web), ca.Store(b, api)
	cc, sc := client.ClientConfig(model.DNSTLS(model.MustIdentity(api)), false), server.ServerConfig()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, cerr, serr := shake(cc, sc); cerr != nil || serr != nil {
			b.Fatal(cerr, serr)
		}
	}
}
