// Package checkout is the shop's gRPC service that takes orders: it asks the
// catalog for the price and books the total in the ledger. A Server is safe
// for concurrent use.
package checkout

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/linkerd-go/linkerd-go/sample/ledger"
	"github.com/linkerd-go/linkerd-go/sample/shoppb"
)

// Server implements shoppb.CheckoutServer.
type Server struct {
	shoppb.UnimplementedCheckoutServer
	Pod     string
	Catalog shoppb.CatalogClient
	Ledger  *ledger.Client
}

var _ shoppb.CheckoutServer = (*Server)(nil)

// Place books one order.
func (s *Server) Place(ctx context.Context, req *shoppb.PlaceRequest) (*shoppb.Receipt, error) {
	if req.GetQuantity() == 0 {
		return nil, status.Error(codes.InvalidArgument, "quantity is zero")
	}
	list, err := s.Catalog.List(ctx, &shoppb.ListRequest{})
	if err != nil {
		return nil, err
	}
	for _, p := range list.GetProducts() {
		if p.GetId() != req.GetProductId() {
			continue
		}
		total := p.GetPrice() * req.GetQuantity()
		n, err := s.Ledger.Book(ctx, total)
		if err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
		return &shoppb.Receipt{Number: n, Total: total, ServedBy: s.Pod}, nil
	}
	return nil, status.Errorf(codes.InvalidArgument, "no product %q", req.GetProductId())
}

// Converse answers every order of the stream with its receipt.
func (s *Server) Converse(stream grpc.BidiStreamingServer[shoppb.PlaceRequest, shoppb.Receipt]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		receipt, err := s.Place(stream.Context(), req)
		if err != nil {
			return err
		}
		if err := stream.Send(receipt); err != nil {
			return err
		}
	}
}
