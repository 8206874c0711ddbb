// Command shop is every part of the sample shop in one static binary:
//
//	shop front|catalog|checkout|ledger|traffic|stocktake [flags]
//
// Each subcommand prints its flags with -h. The servers stop on SIGTERM after
// a grace time in which they go on serving.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/linkerd-go/linkerd-go/sample/catalog"
	"github.com/linkerd-go/linkerd-go/sample/checkout"
	"github.com/linkerd-go/linkerd-go/sample/front"
	"github.com/linkerd-go/linkerd-go/sample/ledger"
	"github.com/linkerd-go/linkerd-go/sample/lifecycle"
	"github.com/linkerd-go/linkerd-go/sample/shoppb"
	"github.com/linkerd-go/linkerd-go/sample/stocktake"
	"github.com/linkerd-go/linkerd-go/sample/traffic"
)

// commands are the shop's parts by name. Each parses its own flags.
var commands = map[string]func(ctx context.Context, pod string, args []string) error{
	"front":     runFront,
	"catalog":   runCatalog,
	"checkout":  runCheckout,
	"ledger":    runLedger,
	"traffic":   runTraffic,
	"stocktake": runStocktake,
}

func main() {
	names := make([]string, 0, len(commands))
	for n := range commands {
		names = append(names, n)
	}
	slices.Sort(names)
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: shop %s [flags]\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	pod, _ := os.Hostname()
	err := commands[os.Args[1]](ctx, pod, os.Args[2:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		slog.Error("shop stopped", "part", os.Args[1], "err", err)
		os.Exit(1)
	}
}

// server holds the flags that all servers share.
type server struct {
	listen string
	grace  time.Duration
}

func serverFlags(name, listen string) (*flag.FlagSet, *server) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	s := &server{}
	fs.StringVar(&s.listen, "listen", listen, "address to serve on")
	fs.DurationVar(&s.grace, "grace", 3*time.Second, "how long to serve on after SIGTERM, while callers learn of the stop")
	return fs, s
}

func (s *server) bind(name string) (net.Listener, error) {
	l, err := net.Listen("tcp", s.listen)
	if err == nil {
		slog.Info("serving", "part", name, "addr", l.Addr())
	}
	return l, err
}

func dial(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func runFront(ctx context.Context, pod string, args []string) error {
	fs, s := serverFlags("front", ":8080")
	catalogAddr := fs.String("catalog", "catalog:8080", "address of the catalog")
	checkoutAddr := fs.String("checkout", "checkout:8080", "address of the checkout")
	if err := fs.Parse(args); err != nil {
		return err
	}
	catalogConn, err := dial(*catalogAddr)
	if err != nil {
		return err
	}
	defer catalogConn.Close()
	checkoutConn, err := dial(*checkoutAddr)
	if err != nil {
		return err
	}
	defer checkoutConn.Close()
	l, err := s.bind("front")
	if err != nil {
		return err
	}
	shop := &front.Shop{Pod: pod, Catalog: shoppb.NewCatalogClient(catalogConn), Checkout: shoppb.NewCheckoutClient(checkoutConn)}
	routes := shop.Handler()
	stamped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Shop-Pod", pod)
		routes.ServeHTTP(w, r)
	})
	return lifecycle.HTTP(ctx, l, stamped, s.grace)
}

func runCatalog(ctx context.Context, pod string, args []string) error {
	fs, s := serverFlags("catalog", ":8080")
	if err := fs.Parse(args); err != nil {
		return err
	}
	l, err := s.bind("catalog")
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	shoppb.RegisterCatalogServer(srv, &catalog.Server{Pod: pod})
	return lifecycle.GRPC(ctx, l, srv, s.grace)
}

func runCheckout(ctx context.Context, pod string, args []string) error {
	fs, s := serverFlags("checkout", ":8080")
	catalogAddr := fs.String("catalog", "catalog:8080", "address of the catalog")
	ledgerAddr := fs.String("ledger", "ledger:7070", "address of the ledger")
	if err := fs.Parse(args); err != nil {
		return err
	}
	conn, err := dial(*catalogAddr)
	if err != nil {
		return err
	}
	defer conn.Close()
	books := &ledger.Client{Addr: *ledgerAddr}
	defer books.Close()
	l, err := s.bind("checkout")
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	shoppb.RegisterCheckoutServer(srv, &checkout.Server{Pod: pod, Catalog: shoppb.NewCatalogClient(conn), Ledger: books})
	return lifecycle.GRPC(ctx, l, srv, s.grace)
}

func runLedger(ctx context.Context, pod string, args []string) error {
	fs, s := serverFlags("ledger", ":7070")
	if err := fs.Parse(args); err != nil {
		return err
	}
	l, err := s.bind("ledger")
	if err != nil {
		return err
	}
	return (&ledger.Server{Pod: pod}).Serve(ctx, l, s.grace)
}

func runTraffic(ctx context.Context, _ string, args []string) error {
	fs := flag.NewFlagSet("traffic", flag.ContinueOnError)
	var o traffic.Options
	fs.StringVar(&o.Target, "target", "http://front:8080", "base URL of the front")
	fs.Float64Var(&o.Rate, "rate", 20, "requests a second")
	fs.DurationVar(&o.Timeout, "timeout", 10*time.Second, "limit of one request")
	fs.IntVar(&o.MaxInFlight, "max-in-flight", 200, "requests outstanding at most")
	listen := fs.String("listen", ":8080", "address of /stats (JSON; POST resets the counts)")
	every := fs.Duration("log-every", 10*time.Second, "how often to log the counts")
	if err := fs.Parse(args); err != nil {
		return err
	}
	g, err := traffic.New(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) {
		stats := g.Stats()
		if r.Method == http.MethodPost {
			g.Reset()
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(stats)
	})
	go logStats(ctx, g, *every)
	sent := make(chan struct{})
	go func() { defer close(sent); g.Run(ctx) }()
	err = lifecycle.HTTP(ctx, l, mux, 0)
	<-sent
	return err
}

func logStats(ctx context.Context, g *traffic.Generator, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s := g.Stats()
			slog.Info("traffic so far", "sent", s.Sent, "ok", s.OK, "failed", s.Failed, "p99_ms", s.P99Millis, "errors", s.Errors)
		}
	}
}

func runStocktake(ctx context.Context, _ string, args []string) error {
	fs := flag.NewFlagSet("stocktake", flag.ContinueOnError)
	catalogAddr := fs.String("catalog", "catalog:8080", "address of the catalog")
	rounds := fs.Uint("rounds", 20, "how often to go through the catalog")
	limit := fs.Duration("limit", time.Minute, "how long it may take")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	conn, err := dial(*catalogAddr)
	if err != nil {
		return err
	}
	defer conn.Close()
	prices, cents, err := stocktake.Count(ctx, shoppb.NewCatalogClient(conn), uint32(*rounds))
	if err != nil {
		return err
	}
	slog.Info("stocktake done", "prices", prices, "cents", cents)
	return nil
}
