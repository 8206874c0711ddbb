package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/redirect/iptables"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestParseMode(t *testing.T) {
	cases := []struct {
		mode, bin string
		want      iptables.Mode
		err       string
	}{
		{mode: "legacy", want: iptables.Legacy},
		{mode: "nft", want: iptables.NFT},
		{mode: "plain", want: iptables.Plain},
		{mode: "nft", bin: "iptables-legacy", want: iptables.NFT},
		{want: iptables.Legacy},
		{bin: "iptables-legacy", want: iptables.Legacy},
		{bin: "iptables-nft", want: iptables.NFT},
		{bin: "iptables", want: iptables.Plain},
		{mode: "NFT", err: `--iptables-mode valid values are only "legacy", "nft" and "plain"`},
		{bin: "/sbin/iptables", err: `--firewall-bin-path "/sbin/iptables" is unknown, valid values are only "iptables-legacy", "iptables-nft" and "iptables"`},
	}
	for _, c := range cases {
		got, err := ParseMode(c.mode, c.bin)
		if got != c.want || fmt.Sprint(err) != c.err && (err != nil || c.err != "") {
			t.Errorf("mode %q, bin %q: got %q, %v", c.mode, c.bin, got, err)
		}
	}
}

func TestEachModeHasItsOrder(t *testing.T) {
	for mode, want := range map[iptables.Mode]string{
		iptables.NFT:    "nftables, ip_tables",
		iptables.Legacy: "ip_tables, nftables",
		iptables.Plain:  "iptables programs, nftables, ip_tables",
	} {
		var names []string
		for _, b := range backends(Config{Mode: mode}, slog.New(slog.DiscardHandler)) {
			names = append(names, b.name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("mode %s tries %s, want %s", mode, got, want)
		}
	}
}

var (
	errClosed = errors.New("closed")
	errBroken = errors.New("broken")
)

// fake is a backend that answers with an error and notes that it was asked.
func fake(name string, err error, asked *[]string) backend {
	act := func(context.Context, rules.Plan) error {
		*asked = append(*asked, name)
		return err
	}
	return backend{name: name, apply: act, remove: act, unsupported: errClosed}
}

func TestApplyFallsBack(t *testing.T) {
	cases := []struct {
		name          string
		first, second error
		asked         string
		err           error
		warned        bool
	}{
		{name: "the first works", asked: "first"},
		{name: "the first is closed", first: fmt.Errorf("no module: %w", errClosed), asked: "first second", warned: true},
		{name: "the first breaks", first: errBroken, asked: "first", err: errBroken},
		{name: "all are closed", first: errClosed, second: errClosed, asked: "first second", err: errClosed, warned: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var asked []string
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			err := applyFirst(t.Context(), rules.Plan{}, []backend{fake("first", c.first, &asked), fake("second", c.second, &asked)}, log)
			if strings.Join(asked, " ") != c.asked || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("asked %v, error %v", asked, err)
			}
			if warned := strings.Contains(out.String(), "WARN"); warned != c.warned {
				t.Errorf("warned: %v, want %v\n%s", warned, c.warned, out.String())
			}
		})
	}
}

func TestCleanupAsksEverybody(t *testing.T) {
	var asked []string
	err := removeAll(t.Context(), rules.Plan{}, []backend{
		fake("a", errBroken, &asked), fake("b", errClosed, &asked), fake("c", nil, &asked),
	}, slog.New(slog.DiscardHandler))
	if strings.Join(asked, "") != "abc" || !errors.Is(err, errBroken) || errors.Is(err, errClosed) {
		t.Errorf("asked %v, error %v", asked, err)
	}
}

func TestCloseWait(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		// set is what the kernel is told, and err what it answers.
		set []int
		err error
	}{
		{name: "a time", cfg: Config{CloseWaitSeconds: 77}, set: []int{77}},
		{name: "the shortest", cfg: Config{CloseWaitSeconds: 1}, set: []int{1}},
		{name: "none", cfg: Config{CloseWaitSeconds: 0}},
		{name: "nonsense", cfg: Config{CloseWaitSeconds: -1}},
		{name: "when the rules are removed", cfg: Config{CloseWaitSeconds: 77, Cleanup: true}},
		{name: "the kernel refuses", cfg: Config{CloseWaitSeconds: 77}, set: []int{77}, err: errBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			var set []int
			err := closeWait(c.cfg, func(seconds int) error {
				set = append(set, seconds)
				return c.err
			}, slog.New(slog.NewTextHandler(&out, nil)))
			if !slices.Equal(set, c.set) || !errors.Is(err, c.err) {
				t.Errorf("the kernel was told %v, error %v", set, err)
			}
			if logged := strings.Contains(out.String(), "sysctl -w"); logged != (len(c.set) > 0) {
				t.Errorf("log: %s", out.String())
			}
			// What is only simulated says the same.
			var simulated bytes.Buffer
			simulate(c.cfg, rules.Plan{}, slog.New(slog.NewTextHandler(&simulated, nil)))
			if strings.Contains(simulated.String(), "sysctl -w") != (len(c.set) > 0) {
				t.Errorf("log of a simulation: %s", simulated.String())
			}
		})
	}
}
