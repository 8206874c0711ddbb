package nft

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// Errors by which callers tell what is wrong with the place they run in.
var (
	// ErrPermission: the process may not change the firewall.
	ErrPermission = errors.New("the NET_ADMIN capability is missing")
	// ErrUnsupported: the kernel has no nf_tables, or not the parts that
	// redirection needs.
	ErrUnsupported = errors.New("the kernel does not support nftables NAT (modules nf_tables, nft_chain_nat, nft_redir)")
)

// socketBuffer is the size of the netlink socket's buffers in bytes. A
// transaction is sent as one datagram, and the kernel answers each message in
// it, dropping answers that do not fit; the default sizes are reached with
// about a thousand ignored ports.
const socketBuffer = 4 << 20

// connect returns a connection for the calling thread's network namespace. No
// socket is open until it is used, and none stays open.
func connect() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		// Without the capability to exceed the system's limit the buffers are
		// as large as the limit, which does for all but absurd lists.
		if err := c.SetWriteBuffer(socketBuffer); err != nil {
			return err
		}
		return c.SetReadBuffer(socketBuffer)
	}))
	if err != nil {
		return nil, explain(err)
	}
	return conn, nil
}

// Apply makes the rules of the plan those of the calling thread's network
// namespace, replacing all that an earlier Apply put there. On error nothing
// has changed.
func Apply(plan rules.Plan) error {
	conn, err := connect()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	// A family that the plan leaves out must not keep the rules of an earlier
	// plan.
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if !covers(plan, f) {
			if err := dropTable(conn, f); err != nil {
				return err
			}
		}
	}
	if err := batch(conn, plan); err != nil {
		return fmt.Errorf("encode nftables rules: %w", err)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("apply nftables rules: %w", explain(err))
	}
	return nil
}

// Remove deletes everything that Apply put into the calling thread's network
// namespace. It is no error when there is nothing.
func Remove() error {
	conn, err := connect()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	if err := errors.Join(dropTable(conn, rules.IPv4), dropTable(conn, rules.IPv6)); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove nftables rules: %w", explain(err))
	}
	return nil
}

// dropTable puts the removal of a family's table into the pending transaction,
// if there is one. It looks first, because naming a family that the kernel was
// built without would make the whole transaction fail.
func dropTable(conn *nftables.Conn, f rules.Family) error {
	tables, err := conn.ListTablesOfFamily(tableFamily(f))
	if err != nil {
		return fmt.Errorf("list nftables tables of %s: %w", f, explain(err))
	}
	for _, t := range tables {
		if t.Name == Table {
			conn.DelTable(t)
		}
	}
	return nil
}

func covers(plan rules.Plan, f rules.Family) bool {
	for _, fp := range plan.Families {
		if fp.Family == f {
			return true
		}
	}
	return false
}

// An InstalledRule is a rule that the kernel holds.
type InstalledRule struct {
	Family  rules.Family
	Chain   string
	Comment string
	// Packets is how many packets the rule has matched: in a nat table, the
	// number of connections.
	Packets uint64
}

// Installed lists the rules that are in the calling thread's network
// namespace, in the kernel's order, IPv4 first. An empty list means that Apply
// has not run there.
func Installed() ([]InstalledRule, error) {
	conn, err := connect()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	var out []InstalledRule
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		found, err := installed(conn, f)
		if err != nil {
			return nil, fmt.Errorf("list nftables rules of %s: %w", f, explain(err))
		}
		out = append(out, found...)
	}
	return out, nil
}

func installed(conn *nftables.Conn, f rules.Family) ([]InstalledRule, error) {
	chains, err := conn.ListChainsOfTableFamily(tableFamily(f))
	if err != nil {
		return nil, err
	}
	var out []InstalledRule
	for _, chain := range chains {
		if chain.Table.Name != Table {
			continue
		}
		found, err := conn.GetRules(&nftables.Table{Name: Table, Family: tableFamily(f)}, chain)
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			ir := InstalledRule{Family: f, Chain: chain.Name, Packets: packets(r)}
			ir.Comment, _ = userdata.GetString(r.UserData, userdata.TypeComment)
			out = append(out, ir)
		}
	}
	return out, nil
}

func packets(r *nftables.Rule) uint64 {
	for _, e := range r.Exprs {
		if c, ok := e.(*expr.Counter); ok {
			return c.Packets
		}
	}
	return 0
}

// explain adds what an operator can do about an error of the kernel.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT),
		errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		// The kernel says "no such file" for an expression or chain type that
		// it does not know and "invalid" for a netfilter subsystem that is
		// not there. The names in our requests are fixed, so nothing else can
		// be missing or invalid.
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}
