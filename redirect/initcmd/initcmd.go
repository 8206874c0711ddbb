// Package initcmd is the command linkerd2-proxy-init: the init container that
// redirects a pod's traffic to its proxy.
//
// Its flags, messages and exit codes are those of the proxy chapter, section
// 24.1. It needs the NET_ADMIN capability, either because it runs as root or
// because its file carries the capability as permitted, and neither shell nor
// firewall programs. Two flags are additions: --outbound-subnets-to-ignore and
// --cleanup.
//
// [Run] is meant to be called once per process, from any goroutine.
package initcmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/linkerd-go/linkerd-go/redirect/cmdlog"
	"github.com/linkerd-go/linkerd-go/redirect/install"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// Name is what the command is called.
const Name = "linkerd2-proxy-init"

// flags holds what the command line says, as it says it.
type flags struct {
	inboundProxyPort, outboundProxyPort int
	proxyUID, proxyGID                  int
	portsToRedirect                     []int
	inboundPortsToIgnore                []string
	outboundPortsToIgnore               []string
	subnetsToIgnore                     []string
	outboundSubnetsToIgnore             []string
	simulate, cleanup                   bool
	netns                               string
	useWaitFlag                         bool
	closeWaitSeconds                    int
	logFormat, logLevel                 string
	iptablesMode                        string
	ipv6                                bool
	firewallBinPath                     string
	firewallSaveBinPath                 string
}

func (f *flags) set() *pflag.FlagSet {
	s := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	s.SortFlags = false
	s.IntVarP(&f.inboundProxyPort, "incoming-proxy-port", "p", -1, "Port to redirect incoming traffic to")
	s.IntVarP(&f.outboundProxyPort, "outgoing-proxy-port", "o", -1, "Port to redirect outgoing traffic to")
	s.IntVarP(&f.proxyUID, "proxy-uid", "u", -1, "User ID of the proxy, whose outgoing traffic is not redirected")
	s.IntVarP(&f.proxyGID, "proxy-gid", "g", -1, "Group ID of the proxy, whose outgoing traffic is not redirected")
	s.IntSliceVarP(&f.portsToRedirect, "ports-to-redirect", "r", nil, "Ports whose incoming traffic is redirected (default all)")
	s.StringSliceVar(&f.inboundPortsToIgnore, "inbound-ports-to-ignore", nil, "Ports and ranges a-b whose incoming traffic is not redirected")
	s.StringSliceVar(&f.outboundPortsToIgnore, "outbound-ports-to-ignore", nil, "Ports and ranges a-b to which outgoing traffic is not redirected")
	s.StringSliceVar(&f.subnetsToIgnore, "subnets-to-ignore", nil, "Networks (CIDR) from which incoming traffic is not redirected")
	s.StringSliceVar(&f.outboundSubnetsToIgnore, "outbound-subnets-to-ignore", nil, "Networks (CIDR) to which outgoing traffic is not redirected")
	s.BoolVar(&f.simulate, "simulate", false, "Only log what would be done")
	s.BoolVar(&f.cleanup, "cleanup", false, "Remove the rules of an earlier run")
	s.StringVar(&f.netns, "netns", "", "Path of the network namespace to work in (default the own one)")
	s.BoolVarP(&f.useWaitFlag, "use-wait-flag", "w", false, "Give iptables programs the flag -w (mode plain)")
	s.IntVar(&f.closeWaitSeconds, "timeout-close-wait-secs", 0, "Set nf_conntrack_tcp_timeout_close_wait to this many seconds (default untouched)")
	s.StringVar(&f.logFormat, "log-format", "plain", "Log format: plain or json")
	s.StringVar(&f.logLevel, "log-level", "info", "Log level: debug, info, warn or error")
	s.StringVar(&f.iptablesMode, "iptables-mode", "", "Kind of firewall rules: legacy, nft or plain")
	s.BoolVar(&f.ipv6, "ipv6", true, "Also redirect IPv6")
	s.StringVar(&f.firewallBinPath, "firewall-bin-path", "", "Gives the mode if --iptables-mode does not: iptables-legacy, iptables-nft or iptables")
	s.StringVar(&f.firewallSaveBinPath, "firewall-save-bin-path", "", "Accepted for compatibility, without effect")
	return s
}

// config checks what can be checked before anything is done.
func (f *flags) config() (install.Config, error) {
	mode, err := install.ParseMode(f.iptablesMode, f.firewallBinPath)
	if err != nil {
		return install.Config{}, err
	}
	if f.cleanup {
		// The ports matter for putting rules in place only.
		f.inboundProxyPort, f.outboundProxyPort = max(f.inboundProxyPort, 0), max(f.outboundProxyPort, 0)
	}
	return install.Config{
		Rules: rules.Options{
			InboundProxyPort:        f.inboundProxyPort,
			OutboundProxyPort:       f.outboundProxyPort,
			ProxyUID:                f.proxyUID,
			ProxyGID:                f.proxyGID,
			PortsToRedirect:         f.portsToRedirect,
			InboundPortsToIgnore:    f.inboundPortsToIgnore,
			OutboundPortsToIgnore:   f.outboundPortsToIgnore,
			SubnetsToIgnore:         f.subnetsToIgnore,
			OutboundSubnetsToIgnore: f.outboundSubnetsToIgnore,
			IPv6:                    f.ipv6,
		},
		Mode:             mode,
		Netns:            f.netns,
		Simulate:         f.simulate,
		Cleanup:          f.cleanup,
		Wait:             f.useWaitFlag,
		CloseWaitSeconds: f.closeWaitSeconds,
	}, nil
}

// Run executes the command with the arguments after its name and returns its
// exit code: 0 when the rules are in place, 1 otherwise. The log goes to
// stderr. The environment plays no part.
func Run(ctx context.Context, args, _ []string, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintf(stderr, "Error: %s\n", err)
		return 1
	}
	var f flags
	set := f.set()
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "%s redirects a pod's traffic to its proxy.\n\nUsage:\n  %s [flags]\n\nFlags:\n%s", Name, Name, set.FlagUsages())
		return 0
	case err != nil:
		return fail(err)
	}
	level, err := cmdlog.ParseLevel(f.logLevel)
	if err != nil {
		return fail(err)
	}
	log, err := cmdlog.New(stderr, f.logFormat, level)
	if err != nil {
		return fail(err)
	}
	if set.NArg() > 0 {
		log.Warn("arguments ignored, flags are given as --name=value", "arguments", set.Args())
	}
	cfg, err := f.config()
	if err != nil {
		return fail(err)
	}
	if err := install.Run(ctx, cfg, log); err != nil {
		return fail(err)
	}
	return 0
}
