// Package command is what the commands of the CLI share: their contact with
// the world outside the process, the global flags, and the ways to fail.
//
// A command is an options struct, a constructor that takes a *World and a
// *Globals and returns a cobra command, and a run function. It reaches files,
// terminals, clusters and clocks only through the World, so that a test
// replaces all of it. A World is immutable once commands are built; commands
// run one at a time.
package command

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/portforward"
)

// World is every contact of a command with the outside.
type World struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Terminal says that Out is a terminal: colours and spinners are wanted.
	Terminal bool
	// Getenv reads an environment variable, empty when unset.
	Getenv func(string) string
	// Now is the current time.
	Now func() time.Time
	// After is time.After, for waits between retries.
	After func(time.Duration) <-chan time.Time
	// ReadFile reads a file given on the command line.
	ReadFile func(string) ([]byte, error)
	// HTTP is for the version server and for manifests given as URLs.
	HTTP *http.Client
	// Connect makes the clients of a cluster; no request yet.
	Connect func(cluster.Options) (*cluster.Cluster, error)
	// Dial connects to a port of a pod. The closer ends the tunnel.
	Dial func(ctx context.Context, c *cluster.Cluster, namespace, pod string, port int32) (net.Conn, io.Closer, error)
	// LookPath finds an executable, Exec runs one with this World's streams.
	LookPath func(string) (string, error)
	Exec     func(ctx context.Context, path string, args []string, in io.Reader, out, errs io.Writer) error
	// Self is the path of this executable.
	Self func() (string, error)
}

// Real returns the World of the running process.
func Real() *World {
	return &World{
		In:       os.Stdin,
		Out:      os.Stdout,
		Err:      os.Stderr,
		Terminal: isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "",
		Getenv:   os.Getenv,
		Now:      time.Now,
		After:    time.After,
		ReadFile: os.ReadFile,
		HTTP:     &http.Client{Timeout: 30 * time.Second},
		Connect:  cluster.Connect,
		Dial: func(ctx context.Context, c *cluster.Cluster, namespace, pod string, port int32) (net.Conn, io.Closer, error) {
			tunnel, err := portforward.Open(ctx, c, namespace, pod)
			if err != nil {
				return nil, nil, err
			}
			conn, err := tunnel.Dial(port)
			if err != nil {
				_ = tunnel.Close()
				return nil, nil, err
			}
			return conn, tunnel, nil
		},
		LookPath: exec.LookPath,
		Exec: func(ctx context.Context, path string, args []string, in io.Reader, out, errs io.Writer) error {
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
			return cmd.Run()
		},
		Self: os.Executable,
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	// The other character device that output is sent to. Reports on standard
	// error would be coloured, wherever they go.
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// Until returns a reader of r that fails once ctx has ended, also while it
// waits for r: nobody types what a command reads that was interrupted. What r
// is asked for then goes on in the background until r answers, and is lost.
// Reads must come one after the other.
func Until(ctx context.Context, r io.Reader) io.Reader { return &until{ctx: ctx, in: r} }

type until struct {
	ctx context.Context
	in  io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	type result struct {
		n   int
		err error
	}
	// p is the caller's again when Read returns.
	own := make([]byte, len(p))
	done := make(chan result, 1)
	go func() {
		n, err := u.in.Read(own)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, own[:r.n]), r.err
	case <-u.ctx.Done():
		return 0, context.Cause(u.ctx)
	}
}

// maxDownload bounds what is read from a URL on the command line.
const maxDownload = 16 << 20

// Read returns the content of a file, of standard input for "-", or of an
// http or https URL.
func (w *World) Read(name string) ([]byte, error) {
	switch {
	case name == "-":
		return io.ReadAll(w.In)
	case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
		response, err := w.HTTP.Get(name)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("unable to read URL %q, server reported %s", name, response.Status)
		}
		return io.ReadAll(io.LimitReader(response.Body, maxDownload))
	default:
		return w.ReadFile(name)
	}
}

// Defaults of the global flags (CLI chapter, section 1.1).
const (
	DefaultNamespace    = "linkerd"
	DefaultCNINamespace = "linkerd-cni"
	// NamespaceEnv gives the namespace when the flag has its default.
	NamespaceEnv = "LINKERD_NAMESPACE"
	// RegistryEnv acts as --registry on every command that has it.
	RegistryEnv = "LINKERD_DOCKER_REGISTRY"
)

var namespacePattern = regexp.MustCompile(`^[a-zA-Z0-9-]+$`)

// Globals are the flags every command has (CLI chapter, section 1.1).
type Globals struct {
	// Namespace is the one of the control plane.
	Namespace    string
	CNINamespace string
	Kubeconfig   string
	Context      string
	As           string
	AsGroups     []string
	// APIAddr is host:port of a control-plane API, instead of a port-forward.
	APIAddr string
	Verbose bool
}

// Register adds the flags to a command and everything below it.
func (g *Globals) Register(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVarP(&g.Namespace, "linkerd-namespace", "L", DefaultNamespace, "Namespace in which Linkerd is installed ($LINKERD_NAMESPACE)")
	f.StringVar(&g.CNINamespace, "cni-namespace", DefaultCNINamespace, "Namespace in which the Linkerd CNI plugin is installed")
	f.StringVar(&g.Kubeconfig, "kubeconfig", "", "Path to the kubeconfig file to use for CLI requests")
	f.StringVar(&g.Context, "context", "", "Name of the kubeconfig context to use")
	f.StringVar(&g.As, "as", "", "Username to impersonate for Kubernetes operations")
	f.StringArrayVar(&g.AsGroups, "as-group", nil, "Group to impersonate for Kubernetes operations")
	f.StringVar(&g.APIAddr, "api-addr", "", "Override kubeconfig and communicate directly with the control plane at host:port (mostly for testing)")
	f.BoolVar(&g.Verbose, "verbose", false, "Turn on debug logging")
}

// Complete takes what the environment says and refuses what cannot be. The
// root command calls it before any other.
func (g *Globals) Complete(w *World) error {
	if g.Namespace == DefaultNamespace {
		if ns := w.Getenv(NamespaceEnv); ns != "" {
			g.Namespace = ns
		}
	}
	for _, ns := range []string{g.Namespace, g.CNINamespace} {
		if !namespacePattern.MatchString(ns) {
			return fmt.Errorf("%q is not a valid namespace", ns)
		}
	}
	level := slog.LevelError + 4 // Silent: commands report their own errors.
	if g.Verbose {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(w.Err, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(logger)
	// What client-go has to say of its own accord is for --verbose only.
	klog.SetSlogLogger(logger)
	return nil
}

// Connect makes the clients of the cluster the flags name.
func (g *Globals) Connect(w *World) (*cluster.Cluster, error) {
	return w.Connect(cluster.Options{Kubeconfig: g.Kubeconfig, Context: g.Context, As: g.As, AsGroups: g.AsGroups})
}

// Failure ends a command whose message is printed as it is, without the prefix
// and the usage text a mistake on the command line gets (CLI chapter, section
// 1.4). An empty Message prints nothing: the command has said it already.
type Failure struct {
	Message string
	// Code is the exit code; zero means 1.
	Code int
}

func (f *Failure) Error() string { return f.Message }

// Failf returns a Failure.
func Failf(format string, args ...any) error {
	return &Failure{Message: fmt.Sprintf(format, args...)}
}

// Silent is the Failure of a command that has printed its reasons.
func Silent() error { return &Failure{} }

// ContextNamespace returns the namespace given on the command line, else the
// one of the kubeconfig context.
func ContextNamespace(flag string, c *cluster.Cluster) string {
	if flag != "" {
		return flag
	}
	if c.Namespace != "" {
		return c.Namespace
	}
	return "default"
}

// OneOf reports whether value is one of the allowed ones.
func OneOf(value string, allowed ...string) bool {
	for _, a := range allowed {
		if value == a {
			return true
		}
	}
	return false
}

// AtMostOne is the Args of a command that takes none but, in releases of old,
// one of some words. Anything else is refused in the words that the framework
// has for commands without arguments (CLI chapter, section 1.4).
func AtMostOne(words ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && !OneOf(args[0], words...) {
			return cobra.NoArgs(cmd, args)
		}
		return cobra.MaximumNArgs(1)(cmd, args)
	}
}

// Lines joins items, each on its own line behind a bullet, as refusals list
// the objects they are about.
func Lines(items []string) string {
	var b strings.Builder
	for _, item := range items {
		b.WriteString("\n\t* ")
		b.WriteString(item)
	}
	return b.String()
}
