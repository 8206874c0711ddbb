// Package front is the shop's HTTP face:
//
//	GET  /            one line saying what this is
//	GET  /products    the catalog, as JSON
//	GET  /prices      the catalog as a gRPC stream, as JSON lines
//	POST /orders      {"product":"rope","quantity":2} → the receipt, as JSON
//	GET  /healthz     200 as long as the process runs
//
// The handler is safe for concurrent use.
package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/linkerd-go/linkerd-go/sample/shoppb"
)

// orderLimit bounds the body of an order, in bytes.
const orderLimit = 64 << 10

// Shop holds what the front talks to.
type Shop struct {
	Pod      string
	Catalog  shoppb.CatalogClient
	Checkout shoppb.CheckoutClient
}

// Handler returns the routes.
func (s *Shop) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "the shop, served by %s\n", s.Pod)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /products", s.products)
	mux.HandleFunc("GET /prices", s.prices)
	mux.HandleFunc("POST /orders", s.order)
	return mux
}

func (s *Shop) products(w http.ResponseWriter, r *http.Request) {
	list, err := s.Catalog.List(r.Context(), &shoppb.ListRequest{})
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, list.GetProducts())
}

func (s *Shop) prices(w http.ResponseWriter, r *http.Request) {
	stream, err := s.Catalog.Watch(r.Context(), &shoppb.WatchRequest{Rounds: 3})
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	for n := 0; ; n++ {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			if n == 0 {
				fail(w, err)
				return
			}
			// The head is out; cutting the body is all that is left to
			// say that it is not whole.
			panic(http.ErrAbortHandler)
		}
		if err := out.Encode(p); err != nil {
			return
		}
	}
}

func (s *Shop) order(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Product  string `json:"product"`
		Quantity uint32 `json:"quantity"`
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, orderLimit))
	if err := dec.Decode(&order); err != nil {
		http.Error(w, "the order is no JSON object: "+err.Error(), http.StatusBadRequest)
		return
	}
	receipt, err := s.Checkout.Place(r.Context(), &shoppb.PlaceRequest{ProductId: order.Product, Quantity: order.Quantity})
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(receipt)
}

// fail answers with the HTTP status that says the same as the gRPC error.
func fail(w http.ResponseWriter, err error) {
	st := status.Convert(err)
	code := http.StatusBadGateway
	switch st.Code() {
	case codes.InvalidArgument:
		code = http.StatusBadRequest
	case codes.PermissionDenied, codes.Unauthenticated:
		code = http.StatusForbidden
	case codes.Unavailable:
		code = http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		code = http.StatusGatewayTimeout
	}
	http.Error(w, st.Code().String()+": "+st.Message(), code)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
