package sample_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/sample/catalog"
	"github.com/linkerd-go/linkerd-go/sample/checkout"
	"github.com/linkerd-go/linkerd-go/sample/front"
	"github.com/linkerd-go/linkerd-go/sample/ledger"
	"github.com/linkerd-go/linkerd-go/sample/lifecycle"
	"github.com/linkerd-go/linkerd-go/sample/shoppb"
	"github.com/linkerd-go/linkerd-go/sample/stocktake"
	"github.com/linkerd-go/linkerd-go/sample/traffic"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// openShop runs every server of the shop on loopback and returns the front's
// handler and a client of the catalog.
func openShop(t *testing.T) (*front.Shop, string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	serve := func(name string, run func(net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- run(l) }()
		return l.Addr().String()
	}
	ledgerAddr := serve("ledger", func(l net.Listener) error {
		return (&ledger.Server{Pod: "ledger-0"}).Serve(ctx, l, 0)
	})
	catalogSrv := grpc.NewServer()
	shoppb.RegisterCatalogServer(catalogSrv, &catalog.Server{Pod: "catalog-0"})
	catalogAddr := serve("catalog", func(l net.Listener) error { return lifecycle.GRPC(ctx, l, catalogSrv, 0) })
	catalogConn := dial(t, catalogAddr)

	books := &ledger.Client{Addr: ledgerAddr}
	checkoutSrv := grpc.NewServer()
	shoppb.RegisterCheckoutServer(checkoutSrv, &checkout.Server{
		Pod: "checkout-0", Catalog: shoppb.NewCatalogClient(catalogConn), Ledger: books,
	})
	checkoutAddr := serve("checkout", func(l net.Listener) error { return lifecycle.GRPC(ctx, l, checkoutSrv, 0) })
	checkoutConn := dial(t, checkoutAddr)
	t.Cleanup(func() {
		catalogConn.Close()
		checkoutConn.Close()
		books.Close()
		cancel()
		for range 3 {
			if err := <-done; err != nil {
				t.Errorf("a server did not stop cleanly: %v", err)
			}
		}
	})
	return &front.Shop{
		Pod: "front-0", Catalog: shoppb.NewCatalogClient(catalogConn), Checkout: shoppb.NewCheckoutClient(checkoutConn),
	}, catalogAddr
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFrontAnswers(t *testing.T) {
	shop, _ := openShop(t)
	h := shop.Handler()
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"home", "GET", "/", "", 200, "the shop, served by front-0"},
		{"products", "GET", "/products", "", 200, `"name":"Brass compass"`},
		{"prices stream", "GET", "/prices", "", 200, `"id":"rope"`},
		{"order", "POST", "/orders", `{"product":"rope","quantity":2}`, 201, `"total":1700`},
		{"order of nothing", "POST", "/orders", `{"product":"rope"}`, 400, "quantity is zero"},
		{"order of the unknown", "POST", "/orders", `{"product":"yacht","quantity":1}`, 400, `no product "yacht"`},
		{"broken order", "POST", "/orders", `{`, 400, "no JSON object"},
		{"unknown path", "GET", "/nowhere", "", 404, "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
			if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.want) {
				t.Errorf("got %d %q, want %d with %q", rec.Code, rec.Body, c.status, c.want)
			}
		})
	}
}

func TestStocktakeCountsEveryPrice(t *testing.T) {
	_, catalogAddr := openShop(t)
	conn := dial(t, catalogAddr)
	defer conn.Close()
	prices, cents, err := stocktake.Count(t.Context(), shoppb.NewCatalogClient(conn), 20)
	if err != nil || prices != 20*len(catalog.Products) || cents != 20*21890 {
		t.Errorf("got %d prices, %d cents, %v", prices, cents, err)
	}
}

func TestLedgerGreetsFirst(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- (&ledger.Server{Pod: "l"}).Serve(ctx, l, 0) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	// Not a byte was sent, and still there is something to read.
	want := "LEDGER 1 l\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v", got, err)
	}
	io.WriteString(c, "BOOK 5\nBOOK x\nSING\nQUIT\n")
	rest, err := io.ReadAll(c)
	if want := "OK 1\nERR bad amount \"x\"\nERR unknown command \"SING\"\n"; err != nil || string(rest) != want {
		t.Errorf("got %q, %v", rest, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTrafficCountsWhatComesBack(t *testing.T) {
	shop, _ := openShop(t)
	routes := shop.Handler()
	seen := make(chan struct{}, 64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Shop-Pod", "front-0")
		if r.URL.Path == "/prices" {
			w.Header().Set("L5d-Proxy-Error", "made up")
			w.WriteHeader(503)
		} else {
			routes.ServeHTTP(w, r)
		}
		select {
		case seen <- struct{}{}:
		default:
		}
	}))
	defer srv.Close()
	g, err := traffic.New(traffic.Options{Target: srv.URL, Rate: 500, Timeout: 5 * time.Second, MaxInFlight: 8})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	for range 32 {
		<-seen
	}
	cancel()
	<-done
	s := g.Stats()
	if s.Sent != s.OK+s.Failed || s.OK == 0 || s.Errors["503 Service Unavailable: made up"] == 0 || s.Servers["front-0"] == 0 {
		out, _ := json.Marshal(s)
		t.Errorf("counts: %s", out)
	}
	g.Reset()
	if s := g.Stats(); s.Sent != 0 || len(s.Errors) != 0 {
		t.Errorf("after a reset: %+v", s)
	}
}
