// Package validatorcmd is the command linkerd2-network-validator: an init
// container that proves, before the application starts, that a pod's outgoing
// connections are redirected.
//
// It stands in for the proxy: it listens where the proxy will, connects to an
// address where nobody is, and expects to have reached itself. Where the CNI
// plugin has not set up the pod this fails, and by the exit code the repair
// controller knows which pods to replace. Flags, messages and codes are those of
// the proxy chapter, section 25.
//
// [Run] is meant to be called once per process, from any goroutine.
package validatorcmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/linkerd-go/linkerd-go/internal/duration"
	"github.com/linkerd-go/linkerd-go/redirect/cmdlog"
)

// Name is what the command is called.
const Name = "linkerd2-network-validator"

// Exit codes.
const (
	// ExitUnredirected means that redirection does not work, or that this could
	// not be found out. The CNI repair controller looks for it.
	ExitUnredirected = 95
	// exitUsage means that the command line is wrong.
	exitUsage = 2
)

// Environment variables that stand in for flags.
const (
	envLogLevel  = "LINKERD_NETWORK_VALIDATOR_LOG_LEVEL"
	envLogFormat = "LINKERD_NETWORK_VALIDATOR_LOG_FORMAT"
)

// Run executes the command with the arguments after its name and returns its
// exit code. The log goes to stderr.
func Run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintf(stderr, "Error: %s\n", err)
		return exitUsage
	}
	logLevel, logFormat := lookup(env, envLogLevel, "info"), lookup(env, envLogFormat, "plain")
	timeout := 10 * time.Second
	var listen, connect string

	set := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.StringVar(&logLevel, "log-level", logLevel, "Log level: debug, info, warn or error ($"+envLogLevel+")")
	set.StringVar(&logFormat, "log-format", logFormat, "Log format: plain or json ($"+envLogFormat+")")
	set.Var(duration.Value{D: &timeout}, "timeout", "How long to try")
	set.StringVar(&listen, "listen-addr", "0.0.0.0:4140", "Address to listen on, where redirected connections arrive")
	set.StringVar(&connect, "connect-addr", "192.0.2.2:1404", "Address to connect to, where nobody listens")
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "%s checks that a pod's outgoing connections are redirected to its proxy.\n\nUsage:\n  %s [flags]\n\nFlags:\n%s",
			Name, Name, set.FlagUsages())
		return 0
	case err != nil:
		return fail(err)
	case set.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q", set.Arg(0)))
	}
	level, err := parseFilter(logLevel)
	if err != nil {
		return fail(err)
	}
	log, err := cmdlog.New(stderr, logFormat, level)
	if err != nil {
		return fail(err)
	}
	listenAddr, err := netip.ParseAddrPort(listen)
	if err != nil {
		return fail(fmt.Errorf("--listen-addr: %w", err))
	}
	connectAddr, err := netip.ParseAddrPort(connect)
	if err != nil {
		return fail(fmt.Errorf("--connect-addr: %w", err))
	}

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := validate(ctx, listenAddr, connectAddr, log); err != nil {
		if context.Cause(ctx) == context.DeadlineExceeded {
			err = fmt.Errorf("timed out after %s: %w", duration.Value{D: &timeout}, err)
		} else if ctx.Err() != nil {
			err = fmt.Errorf("interrupted by a signal: %w", err)
		}
		log.Error("Unable to validate that connections are redirected; the pod's CNI rules are missing or wrong",
			"error", err, "listen", listenAddr, "connect", connectAddr)
		return ExitUnredirected
	}
	log.Info("Validated")
	return 0
}

// errStranger means that the connection reached somebody else.
var errStranger = errors.New("the connection reached another server: it was not redirected")

// validate connects to connect and returns nil if that reaches a listener of
// its own on listen.
func validate(ctx context.Context, listen, connect netip.AddrPort, log *slog.Logger) error {
	token, err := newToken()
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen.String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(l, token, log)
	}()
	defer func() {
		l.Close()
		<-served
	}()

	log.Debug("connecting", "listen", listen, "connect", connect)
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", connect.String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer c.Close()
	// A closed connection is what ends the read when time is up.
	defer context.AfterFunc(ctx, func() { c.Close() })()
	got := make([]byte, len(token))
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	if string(got) != token {
		return errStranger
	}
	return nil
}

// serve gives each connection the token, until the listener is closed.
func serve(l net.Listener, token string, log *slog.Logger) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		log.Debug("accepted a connection", "client", c.RemoteAddr())
		if _, err := io.WriteString(c, token); err != nil {
			log.Debug("cannot write the token", "error", err)
		}
		c.Close()
	}
}

const (
	tokenLen = 63
	alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// newToken makes a text that no other server answers with: random letters and
// digits and a line end, which makes it readable with simple tools too.
func newToken() (string, error) {
	var b strings.Builder
	for range tokenLen {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("make a token: %w", err)
		}
		b.WriteByte(alphabet[n.Int64()])
	}
	return b.String() + "\n", nil
}

// parseFilter reads a log level, or a list of directives of which those for
// other programs are skipped, such as "warn,linkerd=debug".
func parseFilter(filter string) (slog.Level, error) {
	level, found := slog.LevelInfo, false
	for directive := range strings.SplitSeq(filter, ",") {
		target, name, ok := strings.Cut(strings.TrimSpace(directive), "=")
		if !ok {
			name = target
		} else if !strings.HasPrefix("linkerd_network_validator", target) {
			continue
		}
		if strings.EqualFold(name, "off") {
			name = "error"
		}
		l, err := cmdlog.ParseLevel(name)
		if err != nil {
			return 0, err
		}
		// The directive for this program outranks the general one.
		if !found || ok {
			level, found = l, true
		}
	}
	return level, nil
}

// lookup returns an environment variable, or a default if it is not set.
func lookup(env []string, name, byDefault string) string {
	value := byDefault
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}
