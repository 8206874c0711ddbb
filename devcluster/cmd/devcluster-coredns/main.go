// Command devcluster-coredns is the DNS server of the development cluster: CoreDNS with only the plugins that its
// configuration uses, so that its image stays small.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// Plugins run in the order of this list, not in the order of the configuration file.
func init() {
	dnsserver.Directives = []string{
		"reload",
		"errors",
		"log",
		"health",
		"ready",
		"loop",
		"cache",
		"loadbalance",
		"kubernetes",
		"forward",
	}
}

func main() {
	coremain.Run()
}
