package dns

import (
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// FuzzAnswer: whatever comes from the network as an answer is read or refused, and
// never taken for the answer to another question.
func FuzzAnswer(f *testing.F) {
	const name = "dst.linkerd.svc.cluster.local."
	for _, records := range [][]string{
		{name + " 5 IN A 10.0.0.1", name + " 5 IN AAAA fd00::1"},
		{name + " 5 IN SRV 0 0 8086 10-0-0-1." + name},
		{name + " 5 IN CNAME other.example.com."},
		nil,
	} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			m := new(dns.Msg)
			m.SetQuestion(name, kind)
			m.Id, m.Response = 7, true
			for _, r := range records {
				rr, err := dns.NewRR(r)
				if err != nil {
					f.Fatal(err)
				}
				m.Answer = append(m.Answer, rr)
			}
			soa, err := dns.NewRR("cluster.local. 30 IN SOA ns.cluster.local. root.cluster.local. 1 2 3 4 5")
			if err != nil {
				f.Fatal(err)
			}
			m.Ns = append(m.Ns, soa)
			b, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, uint16(7), kind)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, id, kind uint16) {
		m, err := parse(b, id, name, dnsmessage.Type(kind))
		if err != nil {
			return
		}
		for _, r := range m.records {
			if r.ttl < 0 {
				t.Errorf("negative time to live in %+v", r)
			}
			if r.target != "" {
				_, _ = labelAddr(r.target)
			}
		}
		if _, err := parse(b, id+1, name, dnsmessage.Type(kind)); err == nil {
			t.Error("taken for the answer with another number")
		}
		if _, err := parse(b, id, "other."+name, dnsmessage.Type(kind)); err == nil {
			t.Error("taken for the answer to another name")
		}
	})
}
