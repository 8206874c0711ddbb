package inject

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/linkerd-go/linkerd-go/internal/command"
)

// input is one stream of documents.
type input struct {
	// name for messages.
	name string
	data []byte
}

// maxDownload bounds what is read from a URL.
const maxDownload = 64 << 20

// passedOver tells of arguments after the first, which is the only one that is
// used (CLI chapter, section 3.1): without a word they would be missed later.
func passedOver(w *command.World, args []string) {
	for _, arg := range args {
		fmt.Fprintf(w.Err, "‼ %s is not looked at: only the first argument is\n", arg)
	}
}

// read returns the inputs that an argument stands for: a file, each file below a directory in lexical order, what is behind
// a URL, or standard input (CLI chapter, section 3.1).
func read(w *command.World, arg string) ([]input, error) {
	if arg == "-" {
		data, err := io.ReadAll(w.In)
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return []input{{name: "standard input", data: data}}, nil
	}
	if u, err := url.ParseRequestURI(arg); err == nil && u.Scheme != "" && u.Host != "" {
		data, err := download(w.HTTP, u)
		if err != nil {
			return nil, err
		}
		return []input{{name: arg, data: data}}, nil
	}
	var inputs []input
	err := filepath.WalkDir(arg, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		// A link in a directory may lead to a file, and the argument itself to a pipe (`<(kubectl ...)`).
		if path != arg {
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				return err
			}
		}
		data, err := w.ReadFile(path)
		if err != nil {
			return err
		}
		inputs = append(inputs, input{name: path, data: data})
		return nil
	})
	return inputs, err
}

func download(client *http.Client, u *url.URL) ([]byte, error) {
	if u.Scheme != "https" {
		return nil, errors.New("only HTTPS URLs are allowed")
	}
	response, err := client.Get(u.String())
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("unable to read URL %q, server reported %s, status code=%d", u, response.Status, response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxDownload+1))
	if err == nil && len(data) > maxDownload {
		err = fmt.Errorf("unable to read URL %q: more than %d bytes", u, maxDownload)
	}
	return data, err
}
