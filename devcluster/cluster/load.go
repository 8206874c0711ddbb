package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/host"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
	"github.com/linkerd-go/linkerd-go/devcluster/process"
)

// Load imports image tar files (as docker save and OCI tools write them) into the cluster's containerd. Loading the same image
// again is quick; a changed one replaces the old under its name.
func Load(ctx context.Context, target Target, files []string, progress *Progress) error {
	c, err := target.Find()
	if err != nil {
		return err
	}
	if c.APIOnly {
		return fmt.Errorf("cluster %s has the API server only and runs no images", c.Name)
	}
	if record, ok, err := process.Load(recordPath(c, config.Containerd)); err != nil {
		return err
	} else if !ok || !record.Alive() {
		return fmt.Errorf("containerd of cluster %s does not run; run up first", c.Name)
	}
	// All files are looked at first, so that a wrong name costs no time.
	var errs []error
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			errs = append(errs, fmt.Errorf("image file: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, file := range files {
		names, err := importImage(ctx, c, file)
		if err != nil {
			return fmt.Errorf("load %s: %w", file, err)
		}
		progress.Say("loaded %s from %s", strings.Join(names, ", "), file)
	}
	return nil
}

// importImage returns the names of the images in file.
func importImage(ctx context.Context, c plan.Cluster, file string) ([]string, error) {
	out, err := host.Ctr(ctx, c.ContainerdSocket(), "images", "import", file)
	if err != nil {
		return nil, err
	}
	return importedNames(string(out)), nil
}

// importedNames reads the names out of what ctr prints: "unpacking NAME (DIGEST)...done".
func importedNames(out string) []string {
	var names []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "unpacking" {
			names = append(names, fields[1])
		}
	}
	return names
}

// imageNames is the set of images in the cluster.
func imageNames(ctx context.Context, c plan.Cluster) (map[string]bool, error) {
	out, err := host.Ctr(ctx, c.ContainerdSocket(), "images", "ls", "-q")
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, name := range strings.Fields(string(out)) {
		names[name] = true
	}
	return names, nil
}

// Images prints the names and sizes of the cluster's images as a table.
func Images(ctx context.Context, target Target, out *tabwriter.Writer) error {
	c, err := target.Find()
	if err != nil {
		return err
	}
	list, err := host.Ctr(ctx, c.ContainerdSocket(), "images", "ls")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "IMAGE\tDIGEST\tSIZE")
	for _, row := range imageRows(string(list)) {
		fmt.Fprintln(out, strings.Join(row[:], "\t"))
	}
	return out.Flush()
}

// imageRows reads ctr's table: REF TYPE DIGEST SIZE UNIT PLATFORMS LABELS. Names by digest only are left out.
func imageRows(table string) (rows [][3]string) {
	for i, line := range strings.Split(table, "\n") {
		fields := strings.Fields(line)
		if i == 0 || len(fields) < 5 || strings.HasPrefix(fields[0], "sha256:") {
			continue
		}
		rows = append(rows, [3]string{fields[0], fields[2], fields[3] + " " + fields[4]})
	}
	return rows
}
