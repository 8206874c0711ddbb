package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/linkerd-go/linkerd-go/devcluster/certs"
	"github.com/linkerd-go/linkerd-go/devcluster/cgroup"
	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/host"
	"github.com/linkerd-go/linkerd-go/devcluster/image"
	"github.com/linkerd-go/linkerd-go/devcluster/kubeapi"
	"github.com/linkerd-go/linkerd-go/devcluster/netns"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
	"github.com/linkerd-go/linkerd-go/devcluster/process"
)

// starter holds what the steps of Up share.
type starter struct {
	c        plan.Cluster
	host     config.Host
	trees    cgroup.Trees
	progress *Progress
	// processes are the components by name.
	processes map[string]config.Process
}

// Up makes the cluster exist and waits until pods can run in it. What is there already is kept, so that a
// second Up continues a half-done one and does nothing to a whole one. If a component does not come up, the
// ones before it stay, for looking at; Down removes them.
func Up(ctx context.Context, target Target, progress *Progress) (plan.Cluster, error) {
	if err := target.Check(); err != nil {
		return plan.Cluster{}, err
	}
	if os.Geteuid() != 0 {
		return plan.Cluster{}, errors.New("starting a cluster needs root: it makes network namespaces and control groups")
	}
	unlock, err := target.lockCluster(progress)
	if err != nil {
		return plan.Cluster{}, err
	}
	defer unlock()
	prepare := Prepare
	if target.APIOnly {
		prepare = PrepareAPIOnly
	}
	if err := prepare(ctx, progress); err != nil {
		return plan.Cluster{}, err
	}
	c, isNew, err := target.claim()
	if err != nil {
		return plan.Cluster{}, err
	}
	if !isNew && Inspect(ctx, c).Healthy() {
		progress.Say("cluster %s is up already: node %s, %s", c.Name, c.NodeIP(), c.APIServer())
		return c, nil
	}
	verb := "starting"
	if !isNew {
		verb = "continuing with"
	}
	progress.Say("%s cluster %s: node %s, pods %s, services %s", verb, c.Name, c.NodeIP(), c.PodSubnet(), c.Services())

	s, err := newStarter(c, progress)
	if err != nil {
		return c, err
	}
	if err := s.ground(ctx); err != nil {
		return c, err
	}
	if c.APIOnly {
		for _, name := range []string{config.Etcd, config.APIServer} {
			if err := s.start(ctx, name); err != nil {
				return c, err
			}
		}
		progress.Say("cluster %s is ready: the API server, nothing that runs pods", c.Name)
		return c, nil
	}
	// The runtime and the API server need nothing from each other; everything else needs both.
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.start(groupCtx, config.Containerd); err != nil {
			return err
		}
		return s.images(groupCtx)
	})
	group.Go(func() error {
		if err := s.start(groupCtx, config.Etcd); err != nil {
			return err
		}
		return s.start(groupCtx, config.APIServer)
	})
	if err := group.Wait(); err != nil {
		return c, err
	}
	api, err := kubeapi.New(c)
	if err != nil {
		return c, err
	}
	defer api.Close()
	group, groupCtx = errgroup.WithContext(ctx)
	for _, name := range []string{config.Kubelet, config.ControllerManager, config.Scheduler, config.KubeProxy, config.LoadBalancer} {
		group.Go(func() error { return s.start(groupCtx, name) })
	}
	group.Go(func() error { return s.manifests(groupCtx, api) })
	if err := group.Wait(); err != nil {
		return c, err
	}
	if err := s.ready(ctx, api); err != nil {
		return c, err
	}
	progress.Say("cluster %s is ready", c.Name)
	return c, nil
}

// Prepare installs the programs that the machine lacks.
func Prepare(ctx context.Context, progress *Progress) error {
	return prepare(ctx, progress, host.Missing)
}

// PrepareAPIOnly is Prepare for a cluster that runs no pods, which needs less.
func PrepareAPIOnly(ctx context.Context, progress *Progress) error {
	return prepare(ctx, progress, host.MissingForAPI)
}

func prepare(ctx context.Context, progress *Progress, missing func() (programs, packages []string)) error {
	programs, packages := missing()
	if len(programs) > 0 {
		progress.Say("this machine lacks %s; installing Debian packages %s", strings.Join(programs, ", "), strings.Join(packages, " "))
		if err := host.Install(ctx, packages, progress.out); err != nil {
			return err
		}
		if programs, _ = missing(); len(programs) > 0 {
			return fmt.Errorf("still missing after the installation: %s", strings.Join(programs, ", "))
		}
	}
	host.LoadModules()
	return nil
}

func newStarter(c plan.Cluster, progress *Progress) (*starter, error) {
	trees, err := cgroup.Discover()
	if err != nil {
		return nil, err
	}
	facts, err := host.Facts(c.StateDir())
	if err != nil {
		return nil, err
	}
	s := &starter{c: c, host: facts, trees: trees, progress: progress, processes: map[string]config.Process{}}
	for _, p := range config.Processes(c, facts) {
		s.processes[p.Name] = p
	}
	return s, nil
}

// ground makes what all processes stand on: directories, files, control groups and the network.
func (s *starter) ground(ctx context.Context) error {
	// Processes in a namespace that has lost its name can neither be reached nor joined.
	if pids := s.trees.Processes(s.c.Cgroup()); len(pids) > 0 && !netns.Exists(s.c) {
		s.progress.Say("the network namespace of %d processes is gone; ending them", len(pids))
		if err := s.trees.Kill(ctx, s.c.Cgroup()); err != nil {
			return err
		}
	}
	for _, dir := range config.Directories(s.c) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := certs.Ensure(s.c.State("pki"), certs.Names{
		Node: s.c.NodeName(), NodeIP: s.c.NodeIP(), ServiceIP: s.c.APIServiceIP(),
	}); err != nil {
		return err
	}
	kubeconfigs, err := config.Kubeconfigs(s.c)
	if err != nil {
		return err
	}
	for _, file := range append(config.Files(s.c, s.host), kubeconfigs...) {
		if err := writeConfig(file); err != nil {
			return err
		}
	}
	for _, group := range []string{s.c.SystemCgroup(), s.c.PodsCgroup()} {
		if err := s.trees.Make(group); err != nil {
			return err
		}
	}
	if err := netns.Up(s.c, s.host.MTU); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := noteMachine(s.c); err != nil {
		return err
	}
	s.progress.Say("network namespace %s, certificates and configuration are in place", s.c.Namespace())
	return nil
}

// writeConfig leaves a file alone that says the same already.
func writeConfig(file config.File) error {
	if old, err := os.ReadFile(file.Path); err == nil && bytes.Equal(old, file.Data) {
		return nil
	}
	mode := os.FileMode(0o644)
	if file.Secret {
		mode = 0o600
	}
	if err := process.WriteFile(file.Path, file.Data, mode); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// manifests applies the objects of every cluster, once there is a node: pods that find none wait for the
// scheduler's next try. The API server may refuse for a moment after it calls itself ready, so that a
// failure is tried again.
func (s *starter) manifests(ctx context.Context, api *kubeapi.Client) error {
	if err := retry(ctx, func() error { return api.Get(ctx, "/api/v1/nodes/"+s.c.NodeName(), nil) }); err != nil {
		return fmt.Errorf("wait for the node to register: %w", err)
	}
	objects := config.Manifests(s.c, s.host)
	for _, object := range objects {
		if err := retry(ctx, func() error { return api.Apply(ctx, object) }); err != nil {
			return fmt.Errorf("apply %s: %w", object.Kind(), err)
		}
	}
	s.progress.Say("CoreDNS is deployed")
	return nil
}

// ready waits until the node runs pods and names resolve.
func (s *starter) ready(ctx context.Context, api *kubeapi.Client) error {
	record, _, err := process.Load(recordPath(s.c, config.Kubelet))
	if err != nil {
		return err
	}
	if err := s.await(ctx, config.Kubelet, func() error {
		ready, why, err := api.NodeReady(ctx, s.c.NodeName(), record.Started)
		if err != nil || ready {
			return err
		}
		return fmt.Errorf("node %s is not ready: %s", s.c.NodeName(), why)
	}); err != nil {
		return err
	}
	s.progress.Say("node %s is ready", s.c.NodeName())
	if err := s.await(ctx, config.Kubelet, func() error {
		available, wanted, err := api.Available(ctx, config.DNSNamespace, config.DNSDeployment)
		if err != nil {
			return err
		}
		if available < wanted {
			return fmt.Errorf("CoreDNS: %d of %d pods available", available, wanted)
		}
		known, err := api.KubeletKnowsPods(ctx, s.c.NodeName())
		if err != nil {
			return err
		}
		if !known {
			return errors.New("the kubelet does not know its pods yet")
		}
		if err := resolve(ctx, s.c); err != nil {
			return err
		}
		// Pods that a user makes now need it.
		return api.Get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
	}); err != nil {
		return s.withEvents(api, err)
	}
	s.progress.Say("CoreDNS answers at %s", s.c.DNSIP())
	return nil
}

// withEvents adds the warnings of the system namespace to err. The context of the caller has ended, so that
// it makes its own.
func (s *starter) withEvents(api *kubeapi.Client, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	events, eventsErr := api.Events(ctx, config.DNSNamespace, 5)
	if eventsErr != nil || len(events) == 0 {
		return err
	}
	return fmt.Errorf("%w\nwarnings in %s:\n  %s", err, config.DNSNamespace, strings.Join(events, "\n  "))
}

// images builds the two images that every cluster needs and imports those that are not there yet.
func (s *starter) images(ctx context.Context) error {
	for _, i := range []struct {
		program string
		image   image.Program
	}{
		{"devcluster-pause", image.Program{Reference: config.PauseImage, Path: "/pause", User: "65534:65534"}},
		{"devcluster-coredns", image.Program{Reference: config.DNSImage, Path: "/coredns"}},
	} {
		binary, err := host.Sibling(i.program)
		if err != nil {
			return err
		}
		i.image.Binary = binary
		if err := s.ensureImage(ctx, i.program, i.image); err != nil {
			return err
		}
	}
	s.progress.Say("system images are imported")
	return nil
}

func (s *starter) ensureImage(ctx context.Context, program string, p image.Program) error {
	info, err := os.Stat(p.Binary)
	if err != nil {
		return fmt.Errorf("image %s: %w", p.Reference, err)
	}
	// The stamp says which build of the program is imported.
	stamp := s.c.State("images", program+".stamp")
	build := fmt.Sprintf("%d %d\n", info.Size(), info.ModTime().UnixNano())
	if old, err := os.ReadFile(stamp); err == nil && string(old) == build {
		if have, err := imageNames(ctx, s.c); err == nil && have[p.Reference] {
			return nil
		}
	}
	file := s.c.State("images", program+".tar")
	if err := image.Write(file, p); err != nil {
		return err
	}
	defer os.Remove(file)
	if _, err := importImage(ctx, s.c, file); err != nil {
		return err
	}
	if err := os.WriteFile(stamp, []byte(build), 0o644); err != nil {
		return fmt.Errorf("image %s: %w", p.Reference, err)
	}
	return nil
}

// start starts a component unless it runs, and waits until it is well.
func (s *starter) start(ctx context.Context, name string) error {
	record, ok, err := process.Load(recordPath(s.c, name))
	if err != nil {
		return err
	}
	p := s.processes[name]
	if !ok || !record.Alive() {
		if ok {
			s.progress.Say("%s (process %d) has ended; starting it again", name, record.PID)
		}
		// One that was started but not recorded, because the starter was killed in between, would hold the
		// ports and files of the new one.
		if err := endStrays(s.trees, s.c, p.Argv); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := process.Start(process.Spec{
			Name:      name,
			Argv:      p.Argv,
			Namespace: netns.Path(s.c),
			Cgroup:    s.c.SystemCgroup(),
			Trees:     s.trees,
			Log:       s.c.Log(name),
			Record:    recordPath(s.c, name),
			Env:       environment(),
		}); err != nil {
			return err
		}
	}
	if err := s.await(ctx, name, func() error { return check(ctx, s.c, p) }); err != nil {
		return err
	}
	s.progress.Say("%s is up", name)
	return nil
}

func recordPath(c plan.Cluster, name string) string { return c.Run("pids", name+".json") }

const (
	// pollInterval is how often a component that comes up is asked.
	pollInterval = 100 * time.Millisecond
	// logLines is how much of a failing component's log is shown.
	logLines = 15
)

// ComponentError says which component failed, why, and what it logged last.
type ComponentError struct {
	Name string
	Err  error
	// Log is the path of the component's log, Lines its end.
	Log   string
	Lines []string
}

func (e *ComponentError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Name, e.Err)
	if len(e.Lines) > 0 {
		fmt.Fprintf(&b, "\nlast lines of %s:\n  %s", e.Log, strings.Join(e.Lines, "\n  "))
	} else {
		fmt.Fprintf(&b, "\n%s is empty", e.Log)
	}
	return b.String()
}

func (e *ComponentError) Unwrap() error { return e.Err }

var errEnded = errors.New("ended right after its start")

// await repeats well until it succeeds, the component dies or ctx ends.
func (s *starter) await(ctx context.Context, name string, well func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := well()
		if err == nil {
			return nil
		}
		record, ok, _ := process.Load(recordPath(s.c, name))
		if !ok || !record.Alive() {
			return s.componentError(name, record, errEnded)
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				// Another component failed, or the user gave up; that is the news, not this one.
				return context.Canceled
			}
			return s.componentError(name, record, fmt.Errorf("not well in time: %w", err))
		case <-ticker.C:
		}
	}
}

func (s *starter) componentError(name string, record process.Record, err error) error {
	lines, _ := process.Tail(s.c.Log(name), record.LogOffset, logLines)
	return &ComponentError{Name: name, Err: err, Log: s.c.Log(name), Lines: lines}
}

// retry repeats f until it succeeds or ctx ends; then it returns f's last error.
func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollInterval):
		}
	}
}

// environment is what components get: administrators' program directories, and no proxy settings, because
// everything they talk to is on this machine.
func environment() []string {
	var env []string
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, entry := range os.Environ() {
		key, _, _ := strings.Cut(entry, "=")
		switch strings.ToUpper(key) {
		case "PATH", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "KUBECONFIG", "NOTIFY_SOCKET":
		default:
			env = append(env, entry)
		}
	}
	return append(env, "PATH="+path)
}

// endStrays kills processes of the cluster's own group that run the given program as the same component.
func endStrays(trees cgroup.Trees, c plan.Cluster, argv []string) error {
	for _, pid := range trees.Processes(c.SystemCgroup()) {
		data, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cmdline"))
		if err != nil {
			continue // gone
		}
		if !sameComponent(strings.Split(string(data), "\x00"), argv) {
			continue
		}
		if err := kill(pid); err != nil {
			return err
		}
	}
	return nil
}

// sameComponent compares the program and its first argument, which is the component's name.
func sameComponent(running, wanted []string) bool {
	return len(running) > 1 && len(wanted) > 1 &&
		filepath.Base(running[0]) == filepath.Base(wanted[0]) && running[1] == wanted[1]
}
