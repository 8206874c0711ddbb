package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	trustpb "github.com/linkerd-go/linkerd-go/api/proto/trust"
)

// Trust implements the Trust gRPC service: it tells proxies the trust anchors, among which there is always one of the issuer
// in use: a proxy never hears of a bundle under which the certificates issued here would not verify. Any goroutine may use it.
type Trust struct {
	trustpb.UnimplementedTrustServer
	// Credentials hold the anchors.
	Credentials *Credentials
	// Lifetimes are those of leaves: proxies ask several times in the life of one.
	Lifetimes Lifetimes
}

var _ trustpb.TrustServer = (*Trust)(nil)

// Limits of the time between two questions of a proxy. Five minutes are short beside the day for which anchors are
// distributed, and of ten thousand proxies only 33 ask in a second.
const (
	askAgainMin = 2 * time.Second
	askAgainMax = 5 * time.Minute
)

// GetBundle returns the trust anchors, unless the proxy has them.
func (t *Trust) GetBundle(_ context.Context, request *trustpb.GetBundleRequest) (*trustpb.GetBundleResponse, error) {
	bundle := t.Credentials.Bundle(t.Lifetimes, time.Now())
	if bundle == nil {
		return nil, status.Error(codes.Unavailable, "cert issuer not ready yet")
	}
	response := &trustpb.GetBundleResponse{
		AskAgain: durationpb.New(max(askAgainMin, min(askAgainMax, t.Lifetimes.Issuance/10))),
	}
	if sum := sha256.Sum256(bundle); !bytes.Equal(sum[:], request.GetHave()) {
		response.Bundle = bundle
	}
	return response, nil
}
