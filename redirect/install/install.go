// Package install sets up redirection in a network namespace, from options to
// rules in the kernel.
//
// It is what the init container (redirect/initcmd) and the CNI plugin have in
// common: [Run] makes the plan, chooses what puts it in place, and does so in
// the right namespace and with the right privileges.
//
// The mode names are those of iptables (proxy chapter, section 24.1), since
// that is what users have in their values and manifests:
//
//   - "nft" means nftables rules, written by this program itself over netlink
//     (redirect/nft). No binary is needed.
//   - "legacy" means the tables of the old ip_tables module, for nodes whose
//     kernel or other firewall software wants that, written by this program
//     itself too (redirect/xtables).
//   - "plain" means whatever the system calls iptables; that program is run
//     (redirect/iptables).
//
// Where the wanted mode cannot work - no such kernel module, no such program -
// the next one that can is used and a warning says so, because a pod that starts
// is worth more than the variant of its rules.
//
// Run works on a thread of its own and may be called from any goroutine.
package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/redirect/iptables"
	"github.com/linkerd-go/linkerd-go/redirect/nft"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
	"github.com/linkerd-go/linkerd-go/redirect/xtables"
)

// Config says what to set up and how.
type Config struct {
	// Rules says what the rules shall do.
	Rules rules.Options
	// Mode is how they get into the kernel.
	Mode iptables.Mode
	// Netns is the path of the network namespace to work in; empty for the
	// caller's.
	Netns string
	// Simulate logs what would be done and does nothing.
	Simulate bool
	// Cleanup removes the rules instead.
	Cleanup bool
	// Wait makes iptables programs wait for their lock (mode plain only; the
	// other modes have no lock).
	Wait bool
	// CloseWaitSeconds, when positive, is how long the kernel tracks a
	// connection that one side has closed. Otherwise the kernel's own setting
	// stays (proxy chapter, section 24.1).
	CloseWaitSeconds int
}

// ErrMode is returned for an unknown mode, in the words that users know.
var ErrMode = errors.New(`--iptables-mode valid values are only "legacy", "nft" and "plain"`)

// ParseMode reads a mode. An empty one is derived from the name of the iptables
// program that older charts pass (proxy chapter, section 24.1).
func ParseMode(mode, firewallBinPath string) (iptables.Mode, error) {
	switch m := iptables.Mode(mode); m {
	case iptables.Legacy, iptables.NFT, iptables.Plain:
		return m, nil
	case "":
	default:
		return "", ErrMode
	}
	switch firewallBinPath {
	case "", "iptables-legacy":
		return iptables.Legacy, nil
	case "iptables-nft":
		return iptables.NFT, nil
	case "iptables":
		return iptables.Plain, nil
	}
	return "", fmt.Errorf(`--firewall-bin-path %q is unknown, valid values are only "iptables-legacy", "iptables-nft" and "iptables"`, firewallBinPath)
}

// A backend is one way to get a plan into the kernel.
type backend struct {
	name string
	// describe lists what apply does to a pod without rules, as commands.
	describe func(rules.Plan) []string
	// apply and remove log what they do.
	apply  func(context.Context, rules.Plan) error
	remove func(context.Context, rules.Plan) error
	// unsupported is the error by which apply and remove say that this way is
	// closed here, having changed nothing.
	unsupported error
}

// backends lists the ways to try, best first.
func backends(cfg Config, log *slog.Logger) []backend {
	// The first two write the rules themselves and log commands that would
	// have the same effect, since those can be read and tried.
	logged := func(b backend, apply func(rules.Plan) error, remove func() error) backend {
		b.apply = func(_ context.Context, p rules.Plan) error {
			for _, line := range b.describe(p) {
				log.Info(line)
			}
			return apply(p)
		}
		b.remove = func(context.Context, rules.Plan) error { return remove() }
		return b
	}
	viaNft := logged(backend{
		name: "nftables",
		describe: func(p rules.Plan) []string {
			var out []string
			for _, s := range nft.Statements(p) {
				out = append(out, "nft "+s)
			}
			return out
		},
		unsupported: nft.ErrUnsupported,
	}, nft.Apply, nft.Remove)
	viaTables := logged(backend{
		name: "ip_tables",
		describe: func(p rules.Plan) []string {
			var out []string
			for _, f := range p.Families {
				for _, c := range iptables.Commands(f, iptables.ToolsFor(iptables.Legacy, f.Family), "", false) {
					out = append(out, c.String())
				}
			}
			return out
		},
		unsupported: xtables.ErrUnsupported,
	}, xtables.Apply, xtables.Remove)
	firewall := &iptables.Firewall{Mode: cfg.Mode, Wait: cfg.Wait, Log: log, Exec: iptables.Exec, Have: iptables.Have}
	viaProgram := backend{
		name:        "iptables programs",
		describe:    firewall.Describe,
		apply:       firewall.Apply,
		remove:      firewall.Remove,
		unsupported: iptables.ErrNoPrograms,
	}
	switch cfg.Mode {
	case iptables.Legacy:
		return []backend{viaTables, viaNft}
	case iptables.Plain:
		return []backend{viaProgram, viaNft, viaTables}
	}
	return []backend{viaNft, viaTables}
}

// Run sets up what the configuration says. The log gets each step in the words
// of the tool that an operator would use for it.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	plan, err := rules.Build(cfg.Rules)
	if err != nil {
		return err
	}
	for _, skipped := range plan.Skipped {
		log.Error("entry ignored", "error", skipped)
	}
	return onOwnThread(func() error { return run(ctx, cfg, plan, log) })
}

// onOwnThread runs fn on a thread that may change its namespace and privileges,
// because it ends together with its goroutine, which never unlocks it.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

// ErrDrift means that rules which Run has put in place are not there any more.
var ErrDrift = errors.New("the redirection rules are missing or others than they should be")

// Check returns [ErrDrift] if the rules in the configuration's network namespace
// are not those that Run with the same configuration would put there. It knows
// the rules that this program writes itself; in mode plain, where programs write
// them in ways of their own, it finds nothing wrong.
func Check(_ context.Context, cfg Config) error {
	plan, err := rules.Build(cfg.Rules)
	if err != nil {
		return err
	}
	if cfg.Mode == iptables.Plain {
		return nil
	}
	return onOwnThread(func() error {
		if cfg.Netns != "" {
			if err := enter(cfg.Netns); err != nil {
				return err
			}
		}
		if err := raise(unix.CAP_NET_ADMIN); err != nil {
			return err
		}
		plan := withoutMissingIPv6(plan, slog.New(slog.DiscardHandler))
		return checkPlan(plan)
	})
}

// checkPlan compares the comments of the rules in the kernel, which name each
// rule and its parameters, with those of the plan. Run may have fallen back to
// another kind of rules than the wanted one, so either kind will do.
func checkPlan(plan rules.Plan) error {
	type key struct {
		family  rules.Family
		chain   string
		comment string
	}
	want := map[key]int{}
	for _, f := range plan.Families {
		for _, c := range f.Chains {
			want[key{f.Family, c.Hook.String(), c.JumpComment}]++
			for _, r := range c.Rules {
				want[key{f.Family, c.Name, r.Comment}]++
			}
		}
	}
	haveNft, haveTables := map[key]int{}, map[key]int{}
	viaNft, err := nft.Installed()
	if err != nil && !errors.Is(err, nft.ErrUnsupported) {
		return err
	}
	for _, r := range viaNft {
		haveNft[key{r.Family, r.Chain, r.Comment}]++
	}
	viaTables, err := xtables.Installed()
	if err != nil && !errors.Is(err, xtables.ErrUnsupported) {
		return err
	}
	for _, r := range viaTables {
		haveTables[key{r.Family, r.Chain, r.Comment}]++
	}
	if maps.Equal(want, haveNft) || maps.Equal(want, haveTables) {
		return nil
	}
	return fmt.Errorf("%w: %d are wanted, %d are there as nftables and %d as ip_tables", ErrDrift,
		total(want), total(haveNft), total(haveTables))
}

func total[K comparable](counts map[K]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// run is Run on a thread of its own.
func run(ctx context.Context, cfg Config, plan rules.Plan, log *slog.Logger) error {
	if cfg.Simulate {
		simulate(cfg, plan, log)
		return nil
	}
	if cfg.Netns != "" {
		if err := enter(cfg.Netns); err != nil {
			return err
		}
	}
	if err := raise(unix.CAP_NET_ADMIN); err != nil {
		// The kernel decides whether it is needed; its refusal comes with
		// better words.
		log.Debug("cannot raise the NET_ADMIN capability", "error", err)
	}
	if err := closeWait(cfg, setCloseWait, log); err != nil {
		return err
	}
	candidates := backends(cfg, log)
	if cfg.Cleanup {
		return removeAll(ctx, plan, candidates, log)
	}
	return applyFirst(ctx, withoutMissingIPv6(plan, log), candidates, log)
}

// applyFirst uses the first backend that is not closed here.
func applyFirst(ctx context.Context, plan rules.Plan, candidates []backend, log *slog.Logger) error {
	var closed []error
	for _, b := range candidates {
		err := b.apply(ctx, plan)
		switch {
		case err == nil:
			log.Info("redirection is set up", "using", b.name)
			return nil
		case errors.Is(err, b.unsupported):
			log.Warn("this way to change the firewall is not available here", "way", b.name, "error", err)
			closed = append(closed, fmt.Errorf("%s: %w", b.name, err))
		default:
			return err
		}
	}
	return fmt.Errorf("no way to change the firewall is available: %w", errors.Join(closed...))
}

// removeAll removes what any backend may have put in place, since nothing says
// which of them it was.
func removeAll(ctx context.Context, plan rules.Plan, candidates []backend, log *slog.Logger) error {
	var errs []error
	for _, b := range candidates {
		err := b.remove(ctx, plan)
		switch {
		case err == nil:
			log.Info("redirection is removed", "using", b.name)
		case !errors.Is(err, b.unsupported):
			errs = append(errs, fmt.Errorf("%s: %w", b.name, err))
		}
	}
	return errors.Join(errs...)
}

// simulate logs what run would do in a pod without rules.
func simulate(cfg Config, plan rules.Plan, log *slog.Logger) {
	_ = closeWait(cfg, func(int) error { return nil }, log)
	if cfg.Cleanup {
		log.Info("redirection would be removed")
		return
	}
	for _, s := range backends(cfg, log)[0].describe(plan) {
		log.Info(s)
	}
}

// enter moves the calling thread into a network namespace.
func enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// raise makes a capability that the calling thread is permitted to use
// effective. A container that does not run as root gets its capabilities by the
// marks on the program's file; the mark is "permitted" and not "effective", so
// that the same file can also be run in containers without the capability.
func raise(capability uint) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	word, bit := capability/32, uint32(1)<<(capability%32)
	if data[word].Effective&bit != 0 {
		return nil
	}
	if data[word].Permitted&bit == 0 {
		return errors.New("the process is not permitted to use it")
	}
	data[word].Effective |= bit
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// closeWaitSysctl is per network namespace; /proc shows a thread those of its
// own.
const closeWaitSysctl = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"

// closeWait gives set the time limit of the configuration. Without one the
// kernel's stays as it is: to it, 0 seconds would be a limit like others.
func closeWait(cfg Config, set func(seconds int) error, log *slog.Logger) error {
	if cfg.CloseWaitSeconds <= 0 || cfg.Cleanup {
		return nil
	}
	log.Info("sysctl -w " + closeWaitSysctl + "=" + strconv.Itoa(cfg.CloseWaitSeconds))
	return set(cfg.CloseWaitSeconds)
}

func setCloseWait(seconds int) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(closeWaitSysctl, ".", "/"))
	if err := os.WriteFile(path, []byte(strconv.Itoa(seconds)), 0); err != nil {
		return fmt.Errorf("set the close-wait timeout: %w", err)
	}
	return nil
}

// withoutMissingIPv6 leaves IPv6 out of the plan when the kernel has none:
// where there can be no connection, none needs a rule.
func withoutMissingIPv6(plan rules.Plan, log *slog.Logger) rules.Plan {
	if len(plan.Families) < 2 {
		return plan
	}
	if _, err := os.Stat("/proc/thread-self/net/if_inet6"); !errors.Is(err, os.ErrNotExist) {
		return plan
	}
	log.Warn("the kernel has no IPv6, so only IPv4 is set up")
	plan.Families = plan.Families[:1]
	return plan
}
