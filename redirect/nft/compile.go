package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// register is the kernel register that the expressions of a rule hand values
// through. One is enough: each value is used by the very next expression.
const register = 1

// batch writes the plan into conn's pending transaction.
func batch(conn *nftables.Conn, plan rules.Plan) error {
	for _, f := range plan.Families {
		table := &nftables.Table{Name: Table, Family: tableFamily(f.Family)}
		// See Statements for why the table is added twice.
		conn.AddTable(table)
		conn.DelTable(table)
		conn.AddTable(table)

		for _, c := range f.Chains {
			chain := conn.AddChain(&nftables.Chain{Table: table, Name: c.Name})
			for _, r := range c.Rules {
				exprs, err := match(conn, table, f.Family, r.Match)
				if err != nil {
					return err
				}
				exprs = append(exprs, &expr.Counter{})
				conn.AddRule(&nftables.Rule{
					Table:    table,
					Chain:    chain,
					Exprs:    append(exprs, action(r.Action)...),
					UserData: commentData(r.Comment),
				})
			}
		}
		for _, c := range f.Chains {
			base := conn.AddChain(&nftables.Chain{
				Table:    table,
				Name:     c.Hook.String(),
				Type:     nftables.ChainTypeNAT,
				Hooknum:  hooknum(c.Hook),
				Priority: nftables.ChainPriorityNATDest,
				Policy:   new(nftables.ChainPolicyAccept),
			})
			conn.AddRule(&nftables.Rule{
				Table: table,
				Chain: base,
				Exprs: []expr.Any{
					&expr.Counter{},
					&expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name},
				},
				UserData: commentData(c.JumpComment),
			})
		}
	}
	return nil
}

func tableFamily(f rules.Family) nftables.TableFamily {
	if f == rules.IPv6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

func hooknum(h rules.Hook) *nftables.ChainHook {
	if h == rules.Prerouting {
		return nftables.ChainHookPrerouting
	}
	return nftables.ChainHookOutput
}

func commentData(comment string) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, clip(comment))
}

// match returns the expressions that let a packet pass on to the action.
func match(conn *nftables.Conn, table *nftables.Table, f rules.Family, m rules.Match) ([]expr.Any, error) {
	var exprs []expr.Any
	if m.UID != 0 {
		exprs = append(exprs, meta(expr.MetaKeySKUID), equal(binaryutil.NativeEndian.PutUint32(m.UID)))
	}
	if m.GID != 0 {
		exprs = append(exprs, meta(expr.MetaKeySKGID), equal(binaryutil.NativeEndian.PutUint32(m.GID)))
	}
	if m.OutInterface != "" {
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, m.OutInterface)
		exprs = append(exprs, meta(expr.MetaKeyOIFNAME), equal(name))
	}
	// Offsets of the addresses in the fixed IPv4 and IPv6 headers.
	src, dst := uint32(12), uint32(16)
	if f == rules.IPv6 {
		src, dst = 8, 24
	}
	if restricts(m.Src) {
		exprs = append(exprs, network(src, m.Src)...)
	}
	if restricts(m.Dst) {
		exprs = append(exprs, network(dst, m.Dst)...)
	}
	if m.TCP || len(m.DstPorts) > 0 {
		exprs = append(exprs, meta(expr.MetaKeyL4PROTO), equal([]byte{unix.IPPROTO_TCP}))
	}
	if len(m.DstPorts) > 0 {
		portExprs, err := ports(conn, table, mergePorts(m.DstPorts))
		if err != nil {
			return nil, err
		}
		exprs = append(exprs, portExprs...)
	}
	return exprs, nil
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: register} }

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

// network compares the address at an offset of the network header.
func network(offset uint32, p netip.Prefix) []expr.Any {
	size := uint32(p.Addr().BitLen() / 8)
	exprs := []expr.Any{&expr.Payload{
		DestRegister: register,
		Base:         expr.PayloadBaseNetworkHeader,
		Offset:       offset,
		Len:          size,
	}}
	if !p.IsSingleIP() {
		mask := make([]byte, size)
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		exprs = append(exprs, &expr.Bitwise{
			SourceRegister: register,
			DestRegister:   register,
			Len:            size,
			Mask:           mask,
			Xor:            make([]byte, size),
		})
	}
	return append(exprs, equal(p.Addr().AsSlice()))
}

// ports compares the TCP destination port with one range directly and with
// several through an anonymous set, which lives and dies with its rule.
func ports(conn *nftables.Conn, table *nftables.Table, ranges []rules.PortRange) ([]expr.Any, error) {
	load := &expr.Payload{
		DestRegister: register,
		Base:         expr.PayloadBaseTransportHeader,
		Offset:       2,
		Len:          2,
	}
	if len(ranges) == 1 {
		r := ranges[0]
		if r.Single() {
			return []expr.Any{load, equal(bigEndian(r.First))}, nil
		}
		// Two comparisons are what the nft tool makes of a range, and every
		// kernel has them.
		return []expr.Any{
			load,
			&expr.Cmp{Op: expr.CmpOpGte, Register: register, Data: bigEndian(r.First)},
			&expr.Cmp{Op: expr.CmpOpLte, Register: register, Data: bigEndian(r.Last)},
		}, nil
	}

	set := &nftables.Set{
		Table:        table,
		Anonymous:    true,
		Constant:     true,
		KeyType:      nftables.TypeInetService,
		KeyByteOrder: binaryutil.BigEndian,
	}
	for _, r := range ranges {
		if !r.Single() {
			set.Interval = true
		}
	}
	var elements []nftables.SetElement
	if set.Interval {
		elements = intervals(ranges)
	} else {
		for _, r := range ranges {
			elements = append(elements, nftables.SetElement{Key: bigEndian(r.First)})
		}
	}
	if err := conn.AddSet(set, elements); err != nil {
		return nil, err
	}
	return []expr.Any{load, &expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID}}, nil
}

// intervals writes ranges the way the kernel keeps them: as points where the
// set begins and, one further, where it ends. The first point, where nothing
// has begun yet, is what the nft tool writes too and needs to print the set.
func intervals(ranges []rules.PortRange) []nftables.SetElement {
	var out []nftables.SetElement
	if ranges[0].First > 0 {
		out = append(out, nftables.SetElement{Key: bigEndian(0), IntervalEnd: true})
	}
	for _, r := range ranges {
		out = append(out, nftables.SetElement{Key: bigEndian(r.First)})
		if r.Last < 0xffff {
			out = append(out, nftables.SetElement{Key: bigEndian(r.Last + 1), IntervalEnd: true})
		}
	}
	return out
}

func action(a rules.Action) []expr.Any {
	if a.IsReturn() {
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	}
	return []expr.Any{
		&expr.Immediate{Register: register, Data: bigEndian(uint16(a.RedirectTo))},
		&expr.Redir{RegisterProtoMin: register},
	}
}

func bigEndian(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
