// Bench measures what the mesh costs: CPU, throughput, latency and memory of
// whole proxies on a real kernel with real redirection, next to nginx and
// HAProxy under the same load (package lab is the world, README.md says what
// each scenario is); and of the controllers, with a real API server, a large
// cluster's objects and thousands of streams (package control).
//
//	go run ./bench                       # everything, in less than ten minutes
//	go run ./bench -scenario pair-h1     # one scenario
//	go run ./bench -quick                # shorter, for development
//	go run ./bench -profile dir          # with CPU and allocation profiles of the proxies
//	go run ./bench -realtime             # the data plane goes before other work of the machine
//
// It prints a table and the bars that were met, and writes the rows to
// bench/out/latest.json, after each scenario those that there are: one that fails
// keeps no other from being measured. The exit code is 0 if everything could be
// measured, whether or not the bars were met; else the last lines name what failed.
//
// It needs root, for network namespaces, and installs nginx and HAProxy from
// Debian when they are missing. The API server is built before anything is
// timed, which takes minutes the first time.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/linkerd-go/linkerd-go/bench/app"
	"github.com/linkerd-go/linkerd-go/bench/lab"
	"github.com/linkerd-go/linkerd-go/bench/load"
	"github.com/linkerd-go/linkerd-go/test/host"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	// The parts that run in the pods are this program too.
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == "app":
		err = serve(os.Args[2], os.Args[3:])
	case len(os.Args) > 2 && os.Args[1] == "load":
		err = generate(os.Args[2])
	case len(os.Args) > 2 && os.Args[1] == "hold":
		err = hold(os.Args[2:])
	default:
		err = measure()
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve is an application, on several addresses.
func serve(kind string, addrs []string) error {
	handle := app.Echo
	if kind == "bulk" {
		handle = app.Bulk
	}
	errs := make(chan error)
	for _, a := range addrs {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		go func() { errs <- handle(l) }()
	}
	return <-errs
}

// job is what the load command is asked for, as JSON.
type job struct {
	Load *load.Options
	Bulk *load.BulkOptions
	// PIDs are the processes whose CPU time is to be taken while measuring.
	PIDs []int
	// Marks says that whoever started the command has something to take then, too.
	Marks bool
}

// outcome is what it prints, as JSON.
type outcome struct {
	Load load.Result
	Bulk load.BulkResult
	CPU  time.Duration
	// Switches is how often the processes gave up the processor.
	Switches uint64
}

func generate(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	var o outcome
	m := marker{job: &j, asked: bufio.NewReader(os.Stdin)}
	var err error
	if j.Bulk != nil {
		j.Bulk.Mark = m.mark
		o.Bulk, err = load.Bulk(*j.Bulk)
	} else {
		j.Load.Mark = m.mark
		o.Load, err = load.Run(*j.Load)
	}
	if err != nil {
		return err
	}
	o.CPU, o.Switches = m.times[1]-m.times[0], m.switches[1]-m.switches[0]
	return json.NewEncoder(os.Stdout).Encode(o)
}

// marker notes what processes have used when measuring begins, and when it ends.
type marker struct {
	job      *job
	asked    *bufio.Reader
	times    []time.Duration
	switches []uint64
}

func (m *marker) mark() {
	if err := m.note(len(m.times) == 0); err != nil {
		log.Fatal(err)
	}
}

func (m *marker) note(first bool) error {
	// What others take costs the measured processes something: it is kept out.
	if first {
		if err := m.ask(); err != nil {
			return err
		}
	}
	d, err := lab.CPU(m.job.PIDs...)
	if err != nil {
		return err
	}
	n, err := lab.Switches(m.job.PIDs...)
	if err != nil {
		return err
	}
	m.times, m.switches = append(m.times, d), append(m.switches, n)
	if first {
		return nil
	}
	return m.ask()
}

// ask lets whoever started the command take what it wants.
func (m *marker) ask() error {
	if !m.job.Marks {
		return nil
	}
	fmt.Println(lab.Mark)
	_, err := m.asked.ReadString('\n')
	return err
}

// hold opens connections and keeps them until standard input ends.
func hold(args []string) error {
	addr, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	release, err := load.Hold(addr, authority, n)
	if err != nil {
		return err
	}
	defer release()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// options are the flags.
type options struct {
	scenario, out, profile, proxy   string
	controller, devcluster, cluster string
	quick, realtime                 bool
}

func measure() error {
	var o options
	flag.StringVar(&o.scenario, "scenario", "", "measure only these, separated by commas")
	flag.StringVar(&o.out, "out", "bench/out", "where the results go")
	flag.StringVar(&o.profile, "profile", "", "write profiles of the proxies to this folder, one set per scenario")
	flag.StringVar(&o.proxy, "proxy", "", "binary of the proxy; built from ./cmd/linkerd-proxy if empty")
	flag.StringVar(&o.controller, "controller", "", "binary of the controllers; built from ./cmd/linkerd-controller if empty")
	flag.StringVar(&o.devcluster, "devcluster", "", "binary with the API server; bin/devcluster, built by make, if empty")
	flag.StringVar(&o.cluster, "cluster", "bench", "name of the cluster of the API server, which is made and removed")
	flag.BoolVar(&o.quick, "quick", false, "shorter rounds, for development")
	flag.BoolVar(&o.realtime, "realtime", false, "have the data plane's systems and their load go before other work of the machine")
	list := flag.Bool("list", false, "list the scenarios")
	flag.Parse()
	if *list {
		for _, s := range scenarios {
			fmt.Printf("%-18s %s\n", s.name, s.what)
		}
		return nil
	}
	wanted, err := choose(o.scenario)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(o.out, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	host := &host.Host{}
	defer host.Close()
	// A process that is interrupted leaves nothing behind: the kernel ends its
	// children and takes the namespaces apart. Only the files and the API server
	// need this.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		host.Fatal("interrupted")
	}()
	r := &runner{o: o, dir: host.TempDir(), rows: []*row{}, effort: thorough}
	if o.quick {
		r.effort = hasty
	}
	r.wantsControl = slices.ContainsFunc(wanted, func(s scenario) bool { return s.control != nil })
	if r.wantsControl {
		if err := r.programs(); err != nil {
			// The others do not need them.
			r.tried, r.worldErr = true, err
		}
		host.Cleanup(func() {
			if r.world != nil {
				if err := r.world.Close(); err != nil {
					log.Print(err)
				}
			}
		})
	}
	if r.measured, r.others, err = lab.Processors(); err != nil {
		return err
	}
	if slices.ContainsFunc(wanted, func(s scenario) bool { return s.control == nil }) {
		if err := lab.Install(); err != nil {
			return err
		}
		if r.o.proxy == "" {
			r.o.proxy = filepath.Join(r.dir, "linkerd-proxy")
			if err := goBuild(r.o.proxy, "./cmd/linkerd-proxy"); err != nil {
				return err
			}
		}
		r.lab = lab.New(host, r.o.proxy, r.o.realtime)
	}
	fmt.Printf("measured systems on processor %s, the rest on %s\n", r.measured, r.others)
	failed := r.all(wanted)
	fmt.Println()
	printRows(os.Stdout, r.rows)
	fmt.Println()
	printVerdicts(os.Stdout, r.verdicts())
	return failed
}

// choose finds scenarios by name, all for none.
func choose(names string) ([]scenario, error) {
	if names == "" {
		return scenarios, nil
	}
	var all []scenario
next:
	for name := range strings.SplitSeq(names, ",") {
		for _, s := range scenarios {
			if s.name == name {
				all = append(all, s)
				continue next
			}
		}
		return nil, fmt.Errorf("there is no scenario %q; -list shows them", name)
	}
	return all, nil
}

// lock keeps a second benchmark from measuring the first.
func lock(path string) (unlock func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another benchmark runs (%s is locked)", path)
	}
	return func() { f.Close() }, nil
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
