// Package catalog is the shop's gRPC service that lists what is for sale.
// A Server is safe for concurrent use.
package catalog

import (
	"context"

	"google.golang.org/grpc"

	"github.com/linkerd-go/linkerd-go/sample/shoppb"
)

// Products is everything on the shelves, prices in cents.
var Products = []*shoppb.Product{
	{Id: "anchor", Name: "Small anchor", Price: 4900},
	{Id: "barrel", Name: "Oak barrel", Price: 12000},
	{Id: "compass", Name: "Brass compass", Price: 2350},
	{Id: "lantern", Name: "Storm lantern", Price: 1790},
	{Id: "rope", Name: "Thirty ells of rope", Price: 850},
}

// Server implements shoppb.CatalogServer.
type Server struct {
	shoppb.UnimplementedCatalogServer
	// Pod is put into every answer, so that a caller sees how load spreads.
	Pod string
}

var _ shoppb.CatalogServer = (*Server)(nil)

// List returns every product.
func (s *Server) List(context.Context, *shoppb.ListRequest) (*shoppb.ListReply, error) {
	reply := &shoppb.ListReply{}
	for _, p := range Products {
		reply.Products = append(reply.Products, s.stamp(p))
	}
	return reply, nil
}

// Watch streams every product, req.Rounds times over.
func (s *Server) Watch(req *shoppb.WatchRequest, out grpc.ServerStreamingServer[shoppb.Product]) error {
	for range req.GetRounds() {
		for _, p := range Products {
			if err := out.Send(s.stamp(p)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) stamp(p *shoppb.Product) *shoppb.Product {
	return &shoppb.Product{Id: p.GetId(), Name: p.GetName(), Price: p.GetPrice(), ServedBy: s.Pod}
}
