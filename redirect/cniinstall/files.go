package cniinstall

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile puts content at path in one step: whoever reads the path sees the
// old content or the new one, also after a crash.
func writeFile(path string, mode fs.FileMode, content io.Reader) (err error) {
	temporary := path + ".install"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(temporary))
		}
	}()
	// The file may be left from an earlier run, with another mode.
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// copyFiles copies the regular files of a directory to another one, with their
// modes, and returns the paths it wrote.
func copyFiles(from, to string) ([]string, error) {
	entries, err := os.ReadDir(from)
	if err != nil {
		return nil, fmt.Errorf("read the directory of binaries: %w", err)
	}
	var written []string
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(to, e.Name())
		if err := copyFile(filepath.Join(from, e.Name()), path); err != nil {
			return written, fmt.Errorf("install binary %s: %w", e.Name(), err)
		}
		written = append(written, path)
	}
	return written, nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	return writeFile(to, info.Mode().Perm(), src)
}

// remove deletes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
