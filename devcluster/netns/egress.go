package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// egressRules translates what pods send out of the machine. Traffic between clusters keeps its addresses.
func egressRules(c plan.Cluster) string {
	return fmt.Sprintf(`add table ip %[1]s
flush table ip %[1]s
table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[2]s oifname != "%[3]s*" masquerade
		ip saddr %[4]s oifname != "%[3]s*" masquerade
	}
}
`, c.HostTable(), c.Pods(), plan.HostLinkPrefix, c.UplinkCluster().Masked())
}

// Egress lets pods reach what the machine itself reaches over link: it installs the translation and switches
// forwarding on for link. It returns whether forwarding was off before, for Egress's counterpart.
func Egress(c plan.Cluster, link string) (wasOff bool, err error) {
	if err := nft(egressRules(c)); err != nil {
		return false, err
	}
	if link == "" {
		return false, nil
	}
	name := "ipv4/conf/" + link + "/forwarding"
	old, err := os.ReadFile("/proc/sys/net/" + name)
	if err != nil {
		return false, fmt.Errorf("read net/%s: %w", name, err)
	}
	if strings.TrimSpace(string(old)) == "1" {
		return false, nil
	}
	return true, writeSysctl(name, "1")
}

// ForwardingOff switches forwarding on link off again. A link that is gone is no error.
func ForwardingOff(link string) error {
	err := writeSysctl("ipv4/conf/"+link+"/forwarding", "0")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// EgressDown removes the translation.
func EgressDown(c plan.Cluster) error {
	// Adding first makes deleting succeed whether or not it was there.
	return nft(fmt.Sprintf("add table ip %[1]s\ndelete table ip %[1]s\n", c.HostTable()))
}

// HasEgress reports whether the translation is there.
func HasEgress(c plan.Cluster) bool {
	return exec.Command("nft", "list", "table", "ip", c.HostTable()).Run() == nil
}

func nft(rules string) error {
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
