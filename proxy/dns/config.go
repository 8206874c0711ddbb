package dns

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// config is what resolv.conf(5) says, as far as it concerns us.
type config struct {
	// servers are addresses, in the order in which they are asked.
	servers []string
	// port is that of all servers; only tests change it.
	port string
	// search are the suffixes for relative names.
	search []string
	// ndots is how many dots make a relative name be tried as it stands first.
	ndots int
	// timeout is how long a server may take to answer, attempts how often each
	// is asked.
	timeout  time.Duration
	attempts int
}

func readConfig(path string) (*config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseConfig(f)
}

// parseConfig reads what it knows and passes over the rest, as other resolvers
// do: the file is written for them.
func parseConfig(r io.Reader) (*config, error) {
	c := &config{port: "53", ndots: 1, timeout: 5 * time.Second, attempts: 2}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			c.servers = append(c.servers, f[1])
		case "domain":
			c.search = []string{f[1]}
		case "search":
			c.search = f[1:]
		case "options":
			for _, o := range f[1:] {
				name, value, _ := strings.Cut(o, ":")
				n, err := strconv.Atoi(value)
				if err != nil {
					continue
				}
				switch name {
				case "ndots":
					c.ndots = min(max(n, 0), 15)
				case "timeout":
					c.timeout = time.Duration(max(n, 1)) * time.Second
				case "attempts":
					c.attempts = max(n, 1)
				}
			}
		}
	}
	return c, lines.Err()
}

// names are the absolute names that host may stand for, in the order in which
// they are asked for.
func (c *config) names(host string) []string {
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	absolute := host + "."
	var out []string
	early := strings.Count(host, ".") >= c.ndots
	if early {
		out = append(out, absolute)
	}
	for _, s := range c.search {
		out = append(out, absolute+strings.TrimSuffix(s, ".")+".")
	}
	if !early {
		out = append(out, absolute)
	}
	return out
}
