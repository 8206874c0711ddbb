// Package capturecmd is what shows packets: the main process of the debug container ([Watch]), and the subcommand "capture"
// ([Run]), which chooses packets, ends by itself, and writes files that other programs read.
//
// Both run until the context ends, in the goroutine that calls them.
package capturecmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/linkerd-go/linkerd-go/debug/capture"
	"github.com/linkerd-go/linkerd-go/debug/filter"
	"github.com/linkerd-go/linkerd-go/debug/packet"
	"github.com/linkerd-go/linkerd-go/debug/pcap"
)

const (
	// lineBytes are enough of a packet for what a line says of it.
	lineBytes = 4096
	// allBytes are all of a packet, however many segments the kernel has put together.
	allBytes = 1 << 18
	// defaultRate keeps the container's log readable, and small enough for the node.
	defaultRate = 200
)

const usage = `Show the packets of the pod, a line each, or write them for another program.

Usage:
  linkerd-debug capture [flags] [FILTER]

Examples:
  linkerd-debug capture tcp and port 8080 and payload
  linkerd-debug capture --count 20 not port 4191
  kubectl exec POD -c linkerd-debug -- linkerd-debug capture -w - | wireshark -k -i -

Filter:
` + filter.Help + `
Flags:
`

// options say what is captured, and what is made of it.
type options struct {
	link     string
	count    int
	duration time.Duration
	file     string
	rate     int
	snap     int
	filter   filter.Filter
}

// Run executes "capture" with the arguments after it and returns its exit code: 0 when the limits are reached or the context
// ends, 1 if packets cannot be had or written, 2 for a command line that is wrong.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	set := pflag.NewFlagSet("capture", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.StringVarP(&o.link, "interface", "i", "", "Capture on this interface only, such as eth0 or lo")
	set.IntVarP(&o.count, "count", "c", 0, "Stop after so many packets; 0 is never")
	set.DurationVarP(&o.duration, "duration", "d", 0, "Stop after this time, such as 30s; 0 is never")
	set.StringVarP(&o.file, "write", "w", "", "Write packets in the pcap format to this file, \"-\" for standard output, instead of lines")
	set.IntVar(&o.rate, "rate", 0, "Show at most so many lines in a second, and say how many are left out; 0 is all")
	set.IntVar(&o.snap, "snap", allBytes, "Write at most so many bytes of each packet")
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdout, usage+set.FlagUsages())
		return 0
	case err != nil:
		return fail(stderr, 2, err)
	case o.count < 0 || o.duration < 0 || o.rate < 0:
		return fail(stderr, 2, errors.New("--count, --duration and --rate must not be negative"))
	case o.snap < 64 || o.snap > allBytes:
		return fail(stderr, 2, fmt.Errorf("--snap must be from 64 to %d", allBytes))
	}
	var err error
	if o.filter, err = filter.Parse(strings.Join(set.Args(), " ")); err != nil {
		return fail(stderr, 2, err)
	}
	if o.file == "" {
		o.snap = lineBytes
	}
	if err := o.run(ctx, stdout, stderr); err != nil {
		return fail(stderr, 1, err)
	}
	return 0
}

// Watch is the main process of the container: it shows the packets of the pod, at a bounded rate, until the context ends. Where
// it may not capture it says so and waits, so that the pod is not restarted for it and the other commands can be used.
func Watch(ctx context.Context, stdout, stderr io.Writer) int {
	o := options{rate: defaultRate, snap: lineBytes}
	err := o.run(ctx, stdout, stderr)
	if err == nil {
		return 0
	}
	if errors.Is(err, capture.ErrNotAllowed) {
		fmt.Fprintf(stderr, "linkerd-debug: %v; no packets are shown, and the other commands work: see `linkerd-debug help`\n", err)
		<-ctx.Done()
		return 0
	}
	return fail(stderr, 1, err)
}

func fail(stderr io.Writer, code int, err error) int {
	fmt.Fprintf(stderr, "linkerd-debug: capture: %v\n", err)
	return code
}

// run captures until a limit is reached or the context ends, which are no errors.
func (o *options) run(ctx context.Context, stdout, stderr io.Writer) error {
	source, err := capture.Open(o.link, o.snap)
	if err != nil {
		return err
	}
	defer source.Close()
	out, finish, err := o.output(stdout)
	if err != nil {
		return err
	}
	on := "all interfaces"
	if o.link != "" {
		on = o.link
	}
	fmt.Fprintf(stderr, "linkerd-debug: capturing on %s\n", on)
	err = o.each(ctx, source, out, stderr)
	if endErr := finish(); err == nil {
		err = endErr
	}
	if errors.Is(err, syscall.EPIPE) {
		err = nil // who read it has seen enough
	}
	return err
}

// show takes a packet that was chosen.
type show func(*capture.Frame, packet.Packet) error

// output returns what takes the packets, and what is called after the last.
func (o *options) output(stdout io.Writer) (show, func() error, error) {
	if o.file == "" {
		return func(f *capture.Frame, p packet.Packet) error {
			_, err := fmt.Fprintln(stdout, line(f, p))
			return err
		}, func() error { return nil }, nil
	}
	to, closeFile := stdout, func() error { return nil }
	flush := func() error { return nil }
	if o.file != "-" {
		file, err := os.Create(o.file)
		if err != nil {
			return nil, nil, fmt.Errorf("write packets: %w", err)
		}
		buffer := bufio.NewWriterSize(file, 1<<16)
		to, flush, closeFile = buffer, buffer.Flush, file.Close
	}
	w, err := pcap.NewWriter(to, o.snap)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("write packets to %s: %w", o.file, err), closeFile())
	}
	write := func(f *capture.Frame, _ packet.Packet) error {
		if err := w.Write(f); err != nil {
			return fmt.Errorf("write packets to %s: %w", o.file, err)
		}
		return nil
	}
	return write, func() error { return errors.Join(flush(), closeFile()) }, nil
}

// line is a packet as it is shown.
func line(f *capture.Frame, p packet.Packet) string {
	return fmt.Sprintf("%s %s %s %s", f.Time.UTC().Format("15:04:05.000000"), f.Link, f.Direction, p)
}

// each hands packets on, and tells of those left out.
func (o *options) each(ctx context.Context, source *capture.Source, out show, stderr io.Writer) error {
	var end time.Time
	if o.duration > 0 {
		end = time.Now().Add(o.duration)
	}
	limit := rate{limit: o.rate}
	for shown := 0; o.count == 0 || shown < o.count; {
		// Once in a second, so that what was left out is told when nothing more comes.
		wake := time.Now().Add(time.Second)
		if !end.IsZero() && end.Before(wake) {
			wake = end
		}
		frame, err := source.Next(ctx, wake)
		now := time.Now()
		if hidden := limit.ended(now); hidden > 0 {
			fmt.Fprintf(stderr, "linkerd-debug: %d packets not shown: they are more than %d in a second\n", hidden, o.rate)
		}
		if limit.tick(now) {
			tellLost(source, stderr)
		}
		switch {
		case ctx.Err() != nil || !end.IsZero() && !now.Before(end):
			tellLost(source, stderr)
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return err
		}
		if o.filter.All() && !limit.take() {
			continue // not worth reading what it says
		}
		p := packet.Decode(frame.EtherType, frame.Data, frame.Wire)
		if !o.filter.All() && (!o.filter.Match(p, frame.Direction, frame.Link) || !limit.take()) {
			continue
		}
		if err := out(frame, p); err != nil {
			return err
		}
		shown++
	}
	tellLost(source, stderr)
	return nil
}

func tellLost(source *capture.Source, stderr io.Writer) {
	if lost, err := source.Lost(); err == nil && lost > 0 {
		fmt.Fprintf(stderr, "linkerd-debug: %d packets lost: they came faster than they were read\n", lost)
	}
}

// rate bounds how many packets are shown in each second.
type rate struct {
	limit         int // 0 is none
	begun, told   time.Time
	shown, hidden int
}

// ended begins another second if the last has passed, and returns how many packets were left out in it.
func (r *rate) ended(now time.Time) (hidden int) {
	if now.Sub(r.begun) < time.Second {
		return 0
	}
	hidden = r.hidden
	r.begun, r.shown, r.hidden = now, 0, 0
	return hidden
}

// tick is true once in a second.
func (r *rate) tick(now time.Time) bool {
	if now.Sub(r.told) < time.Second {
		return false
	}
	r.told = now
	return true
}

// take says whether one more packet may be shown.
func (r *rate) take() bool {
	if r.limit > 0 && r.shown >= r.limit {
		r.hidden++
		return false
	}
	r.shown++
	return true
}
