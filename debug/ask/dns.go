package ask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Resolve asks DNS as the pod's resolver would: with its servers and search domains, and shows each answer with its TTL.
func Resolve(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := newFlags("resolve", "NAME", "Ask DNS for a name as the pod would, with its search domains, and show what each server answers.")
	kinds := f.StringSlice("type", []string{"A", "AAAA"}, "Types of records, separated by commas, such as SRV or TXT")
	server := f.String("server", "", "The server, ADDRESS or ADDRESS:PORT; those of --config if empty")
	path := f.String("config", "/etc/resolv.conf", "The resolver's configuration")
	timeout := f.Duration("timeout", 5*time.Second, "Give a server up after this time")
	if code, done := f.read(args, 1, 1, stdout, stderr); done {
		return code
	}
	var types []uint16
	for _, k := range *kinds {
		t, ok := dns.StringToType[strings.ToUpper(k)]
		if !ok {
			return f.fail(stderr, 2, fmt.Errorf("unknown type %q", k))
		}
		types = append(types, t)
	}
	config, err := dns.ClientConfigFromFile(*path)
	if err != nil && *server == "" {
		return f.fail(stderr, 1, fmt.Errorf("read the resolver's configuration: %w", err))
	}
	if err != nil {
		config = &dns.ClientConfig{Ndots: 1, Port: "53"}
	}
	servers := config.Servers
	if *server != "" {
		servers = []string{*server}
	}
	for i, s := range servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			servers[i] = net.JoinHostPort(s, config.Port)
		}
	}
	if len(servers) == 0 {
		return f.fail(stderr, 1, fmt.Errorf("%s names no server", *path))
	}
	asker := asker{servers: servers, timeout: *timeout, out: stdout}
	var failed error
	for _, name := range config.NameList(f.Arg(0)) {
		found := false
		for _, t := range types {
			n, err := asker.ask(ctx, name, t)
			found = found || n > 0
			failed = errors.Join(failed, err)
		}
		if found {
			return 0
		}
		if ctx.Err() != nil {
			return f.fail(stderr, 1, ctx.Err())
		}
	}
	if failed == nil {
		failed = errors.New("no such name")
	}
	return f.fail(stderr, 1, fmt.Errorf("%s: %w", f.Arg(0), failed))
}

// An asker asks each server in turn until one answers.
type asker struct {
	servers []string
	timeout time.Duration
	out     io.Writer
}

// ask prints the answer, and returns how many records it has.
func (a *asker) ask(ctx context.Context, name string, kind uint16) (int, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	var failed error
	for _, server := range a.servers {
		begun := time.Now()
		reply, network, err := a.exchange(ctx, m, server)
		took := time.Since(begun).Round(10 * time.Microsecond)
		if err != nil {
			fmt.Fprintf(a.out, "%s %s  %s: %v, after %s\n", name, dns.TypeToString[kind], server, err, took)
			failed = errors.Join(failed, fmt.Errorf("ask %s: %w", server, err))
			continue
		}
		fmt.Fprintf(a.out, "%s %s  %s: %s, %d records, by %s, after %s\n", name, dns.TypeToString[kind], server, dns.RcodeToString[reply.Rcode], len(reply.Answer), network, took)
		for _, r := range reply.Answer {
			h := r.Header()
			fmt.Fprintf(a.out, "  %s  %s  %s  ttl %d s\n", h.Name, dns.TypeToString[h.Rrtype], strings.TrimPrefix(r.String(), h.String()), h.Ttl)
		}
		return len(reply.Answer), nil
	}
	return 0, failed
}

// exchange asks by UDP, and by TCP for an answer that is too long for it.
func (a *asker) exchange(ctx context.Context, m *dns.Msg, server string) (reply *dns.Msg, network string, err error) {
	for _, network = range []string{"udp", "tcp"} {
		reply, _, err = (&dns.Client{Net: network, Timeout: a.timeout}).ExchangeContext(ctx, m, server)
		if err != nil || !reply.Truncated {
			break
		}
	}
	return reply, network, err
}
