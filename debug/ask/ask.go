// Package ask is the subcommands of the debug container that ask one question and print the answer: [Get], [Proxy], [Resolve],
// [Sockets] and [TLS].
//
// Each takes the arguments after its name and returns an exit code: 0 for an answer, 1 if there was none, and 2 for a command
// line that is wrong. An answer that tells of a failure, such as a status of 503, is an answer. They run in the caller's
// goroutine, until the context ends at the latest.
package ask

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
)

// flags is the command line of one subcommand.
type flags struct {
	*pflag.FlagSet
	name, about, arguments string
}

func newFlags(name, arguments, about string) *flags {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	return &flags{set, name, about, arguments}
}

// read reads the command line, with so many arguments; done says that the command ends here, with that code.
func (f *flags) read(args []string, least, most int, stdout, stderr io.Writer) (code int, done bool) {
	switch err := f.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "%s\n\nUsage:\n  linkerd-debug %s [flags] %s\n", f.about, f.name, f.arguments)
		if f.HasFlags() {
			fmt.Fprintf(stdout, "\nFlags:\n%s", f.FlagUsages())
		}
		return 0, true
	case err != nil:
		return f.fail(stderr, 2, err), true
	case f.NArg() < least:
		return f.fail(stderr, 2, fmt.Errorf("%s is missing", f.arguments)), true
	case f.NArg() > most:
		return f.fail(stderr, 2, fmt.Errorf("unexpected argument %q", f.Arg(most))), true
	}
	return 0, false
}

func (f *flags) fail(stderr io.Writer, code int, err error) int {
	fmt.Fprintf(stderr, "linkerd-debug: %s: %v\n", f.name, err)
	return code
}
