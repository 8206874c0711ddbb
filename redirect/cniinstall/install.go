// Package cniinstall is the command linkerd2-cni-install: it puts the CNI plugin
// onto a node and keeps it there.
//
// It runs in a DaemonSet with the host's directories mounted. It copies the
// plugin's binary, writes the kubeconfig that the plugin needs, and adds the
// plugin to the end of every network configuration, again and again as other
// software changes them. When it is stopped it takes everything back. Environment
// variables and sequence are those of the proxy chapter, section 26.2; the
// kubeconfig, which holds a secret, is readable for root only (section 29).
//
// [Run] is meant to be called once per process. All work happens on the calling
// goroutine.
package cniinstall

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/pflag"

	"github.com/linkerd-go/linkerd-go/redirect/cmdlog"
	"github.com/linkerd-go/linkerd-go/redirect/cni"
)

// Name is what the command is called.
const Name = "linkerd2-cni-install"

// Config is what the environment says (proxy chapter, section 26.2).
type Config struct {
	// MountPrefix is where the host's directories are mounted.
	MountPrefix string
	// SourceBinDir holds the binaries to install.
	SourceBinDir string
	// HostBinDir is the host's directory for them.
	HostBinDir string
	// HostNetDir is the host's directory for network configurations.
	HostNetDir string
	// NetworkConfig is the plugin's configuration.
	NetworkConfig string
	// KubeconfigName is the name of the kubeconfig in HostNetDir.
	KubeconfigName string
	// ServiceAccountDir holds the token.
	ServiceAccountDir string
	// CAFile holds the API's CA certificates.
	CAFile string
	// APIHost and APIPort are where the Kubernetes API is.
	APIHost, APIPort string
}

// serviceAccountDir is where the kubelet puts a pod's token.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// configFrom reads the environment.
func configFrom(env []string) (Config, error) {
	get := func(name, byDefault string) string {
		for _, v := range slices.Backward(env) {
			if value, ok := strings.CutPrefix(v, name+"="); ok && value != "" {
				return value
			}
		}
		return byDefault
	}
	c := Config{
		MountPrefix:       get("CONTAINER_MOUNT_PREFIX", "/host"),
		SourceBinDir:      get("CONTAINER_CNI_BIN_DIR", "/opt/cni/bin"),
		HostBinDir:        get("DEST_CNI_BIN_DIR", "/opt/cni/bin"),
		HostNetDir:        get("DEST_CNI_NET_DIR", "/etc/cni/net.d"),
		NetworkConfig:     get("CNI_NETWORK_CONFIG", ""),
		KubeconfigName:    get("KUBECONFIG_FILE_NAME", "ZZZ-linkerd-cni-kubeconfig"),
		ServiceAccountDir: serviceAccountDir,
		APIHost:           get("KUBERNETES_SERVICE_HOST", ""),
		APIPort:           get("KUBERNETES_SERVICE_PORT", ""),
	}
	c.CAFile = get("KUBE_CA_FILE", filepath.Join(c.ServiceAccountDir, "ca.crt"))
	if file := get("CNI_NETWORK_CONFIG_FILE", ""); c.NetworkConfig == "" && file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return Config{}, fmt.Errorf("CNI_NETWORK_CONFIG_FILE: %w", err)
		}
		c.NetworkConfig = string(data)
	}
	switch {
	case c.NetworkConfig == "":
		return Config{}, errors.New("neither CNI_NETWORK_CONFIG nor CNI_NETWORK_CONFIG_FILE is set")
	case c.APIHost == "":
		return Config{}, errors.New("KUBERNETES_SERVICE_HOST is not set")
	case c.APIPort == "":
		return Config{}, errors.New("KUBERNETES_SERVICE_PORT is not set")
	}
	return c, nil
}

// Run executes the command with the arguments after its name until SIGTERM or
// SIGINT, and returns its exit code. The log goes to stderr.
func Run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintf(stderr, "Error: %s\n", err)
		return 1
	}
	var logLevel string
	set := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.StringVar(&logLevel, "log-level", "debug", "Log level: debug, info, warn or error")
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "%s puts the CNI plugin onto a node and keeps it there.\n\nUsage:\n  %s [flags]\n\nFlags:\n%s", Name, Name, set.FlagUsages())
		return 0
	case err != nil:
		return fail(err)
	}
	level, err := cmdlog.ParseLevel(logLevel)
	if err != nil {
		return fail(err)
	}
	log, err := cmdlog.New(stderr, "plain", level)
	if err != nil {
		return fail(err)
	}
	cfg, err := configFrom(env)
	if err != nil {
		return fail(err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	in := newInstaller(cfg, log)
	err = in.run(ctx)
	// Whatever ended the work, the node must not keep a plugin that nobody
	// looks after.
	undoErr := in.undo()
	if err := errors.Join(err, undoErr); err != nil {
		log.Error("the installer ends", "error", err)
		return 1
	}
	return 0
}

// An installer does the work. It belongs to one goroutine.
type installer struct {
	cfg Config
	log *slog.Logger
	// Host directories as they are mounted here.
	binDir, netDir string
	// installed are the files to delete in the end.
	installed []string
	// touched are the configurations to take the plugin out of in the end, each
	// with the hash of what was last written there.
	touched map[string][sha256.Size]byte
}

func newInstaller(cfg Config, log *slog.Logger) *installer {
	return &installer{
		cfg:     cfg,
		log:     log,
		binDir:  filepath.Join(cfg.MountPrefix, cfg.HostBinDir),
		netDir:  filepath.Join(cfg.MountPrefix, cfg.HostNetDir),
		touched: map[string][sha256.Size]byte{},
	}
}

// run installs everything and keeps it up to date until ctx ends or something
// goes wrong.
func (in *installer) run(ctx context.Context) error {
	installed, err := copyFiles(in.cfg.SourceBinDir, in.binDir)
	in.installed = append(in.installed, installed...)
	if err != nil {
		return err
	}
	in.log.Info("installed the binaries", "files", installed)

	// The watch begins before the first look, so that no change is missed
	// between them.
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	for _, dir := range []string{in.cfg.ServiceAccountDir, in.netDir} {
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	if err := in.writeKubeconfig(); err != nil {
		return err
	}
	entries, err := os.ReadDir(in.netDir)
	if err != nil {
		return fmt.Errorf("read the directory of network configurations: %w", err)
	}
	for _, e := range entries {
		if err := in.merge(filepath.Join(in.netDir, e.Name())); err != nil {
			return err
		}
	}
	if len(in.touched) == 0 {
		in.log.Info("there is no network configuration yet, waiting for one", "directory", in.netDir)
	}
	for {
		select {
		case <-ctx.Done():
			in.log.Info("asked to stop")
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch files: %w", err)
		case event := <-w.Events:
			if err := in.react(event); err != nil {
				return err
			}
		}
	}
}

// react handles a change of a file.
func (in *installer) react(event fsnotify.Event) error {
	if !event.Has(fsnotify.Create) && !event.Has(fsnotify.Write) && !event.Has(fsnotify.Rename) {
		return nil
	}
	in.log.Debug("a file has changed", "file", event.Name, "change", event.Op.String())
	if filepath.Dir(event.Name) == filepath.Clean(in.cfg.ServiceAccountDir) {
		// The kubelet replaces all files of a volume in one step, by a new
		// link of this name.
		if strings.HasSuffix(event.Name, "..data") {
			return in.writeKubeconfig()
		}
		return nil
	}
	return in.merge(event.Name)
}

// writeKubeconfig writes what the plugin needs to reach the API.
func (in *installer) writeKubeconfig() error {
	token, err := os.ReadFile(filepath.Join(in.cfg.ServiceAccountDir, "token"))
	if err != nil {
		return fmt.Errorf("read the service account's token: %w", err)
	}
	ca, err := os.ReadFile(in.cfg.CAFile)
	if err != nil {
		return fmt.Errorf("read the API's CA certificate: %w", err)
	}
	token = bytes.TrimSpace(token)
	if len(token) == 0 {
		return errors.New("the service account's token is empty")
	}
	if len(bytes.TrimSpace(ca)) == 0 {
		return errors.New("the API's CA certificate is empty")
	}
	content, err := cni.Kubeconfig{
		Server: "https://" + net.JoinHostPort(strings.Trim(in.cfg.APIHost, "[]"), in.cfg.APIPort),
		CA:     ca,
		Token:  string(token),
	}.Encode()
	if err != nil {
		return err
	}
	path := filepath.Join(in.netDir, in.cfg.KubeconfigName)
	// The container runtime runs the plugin as root; nobody else needs the
	// token.
	if err := writeFile(path, 0o600, bytes.NewReader(content)); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	if !slices.Contains(in.installed, path) {
		in.installed = append(in.installed, path)
	}
	in.log.Info("wrote the kubeconfig", "file", path)
	return nil
}

// merge adds the plugin to a network configuration. Files of other kinds and
// what merge itself has written are left alone.
func (in *installer) merge(path string) error {
	ext := filepath.Ext(path)
	if ext != ".conf" && ext != ".conflist" {
		return nil
	}
	conf, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		in.log.Warn("a network configuration has vanished", "file", path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read network configuration: %w", err)
	}
	if hash, ok := in.touched[path]; ok && hash == sha256.Sum256(conf) {
		in.log.Debug("the plugin is in place already", "file", path)
		return nil
	}
	plugin, err := PluginConfig(in.cfg.NetworkConfig, filepath.Join(in.cfg.HostNetDir, in.cfg.KubeconfigName))
	if err != nil {
		return err
	}
	merged, becameList, err := Merge(conf, plugin)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// Somebody is still writing it; the next change brings the rest.
		in.log.Warn("a network configuration is incomplete", "file", path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	to := path
	if becameList && ext == ".conf" {
		to = strings.TrimSuffix(path, ext) + ".conflist"
	}
	if err := writeFile(to, 0o644, bytes.NewReader(merged)); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	in.touched[to] = sha256.Sum256(merged)
	if to != path {
		// The runtime takes the first file of the directory, so the old one
		// would win.
		if err := remove(path); err != nil {
			return fmt.Errorf("delete the network configuration that was replaced: %w", err)
		}
	}
	in.log.Info("added the plugin to a network configuration", "file", to)
	return nil
}

// undo takes back everything that run has done. The binaries go first: without
// them, no pod starts that would miss its rules.
func (in *installer) undo() error {
	var errs []error
	for _, path := range in.installed {
		if err := remove(path); err != nil {
			errs = append(errs, fmt.Errorf("undo: %w", err))
		}
	}
	for path := range in.touched {
		if err := unmergeFile(path); err != nil {
			errs = append(errs, fmt.Errorf("undo: %w", err))
		}
	}
	in.log.Info("took the plugin off the node", "files", in.installed, "configurations", len(in.touched))
	return errors.Join(errs...)
}

func unmergeFile(path string) error {
	conf, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read network configuration: %w", err)
	}
	without, changed, err := Unmerge(conf)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !changed {
		return nil
	}
	if err := writeFile(path, 0o644, bytes.NewReader(without)); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	return nil
}
