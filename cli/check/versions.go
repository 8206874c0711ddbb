package check

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/cli/channel"
	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

var errLatestUnknown = errors.New("the latest version could not be determined")

func (s *state) versions() health.Category {
	return health.Category{ID: "linkerd-version", Checks: []health.Check{
		{
			Description: "can determine the latest version", Anchor: "l5d-version-latest", Warning: true,
			Run: func(ctx context.Context) (err error) {
				if s.options.expectedVersion != "" {
					s.latest, err = channel.Expect(s.options.expectedVersion)
					return err
				}
				server := s.versionServer()
				if server == nobody {
					return health.Skip
				}
				uuid := s.uuid
				if uuid == "" {
					uuid = "unknown"
				}
				s.latest, err = channel.Fetch(ctx, s.world.HTTP, server, s.client, uuid)
				if err != nil {
					err = fmt.Errorf("%w\n    %s", err, versionHint)
				}
				return err
			},
		},
		{
			Description: "cli is up-to-date", Anchor: "l5d-version-cli", Warning: true,
			Run: func(context.Context) error { return s.current(s.client) },
		},
	}}
}

// nobody is a version server that is not asked.
const nobody = "none"

// versionHint is for clusters without a way to the server.
const versionHint = "without a way to it use --expected-version, or --version-server=none to leave out what depends on it"

// versionServer is whom to ask for the latest versions: whom the user says, or
// else the installation, whose heartbeat reports there.
func (s *state) versionServer() string {
	for _, address := range []string{s.options.versionServer, s.value("versionCheckURL")} {
		if address != "" {
			return address
		}
	}
	return channel.Server
}

// unknownLatest is the result of comparing with a latest version that is not
// known.
func (s *state) unknownLatest() error {
	if s.options.expectedVersion == "" && s.versionServer() == nobody {
		return health.Skip
	}
	return errLatestUnknown
}

func (s *state) current(v string) error {
	if s.latest == nil {
		return s.unknownLatest()
	}
	return s.latest.Match(v)
}

func (s *state) controlPlaneVersion() health.Category {
	return health.Category{ID: "control-plane-version", Checks: []health.Check{
		{
			Description: "can retrieve the control plane version", Anchor: "l5d-version-control", Fatal: true, Retry: true,
			Run: func(ctx context.Context) error {
				if err := s.installation(ctx); err != nil {
					return err
				}
				if s.value("linkerdVersion") == "" {
					return errors.New("the configuration of the control plane has no linkerdVersion")
				}
				return nil
			},
		},
		{
			Description: "control plane is up-to-date", Anchor: "l5d-version-control", Warning: true,
			Run: func(context.Context) error { return s.current(s.value("linkerdVersion")) },
		},
		{
			Description: "control plane and cli versions match", Anchor: "l5d-version-control", Warning: true,
			Run: func(context.Context) error {
				if v := s.value("linkerdVersion"); v != s.client {
					return fmt.Errorf("control plane running %s but cli running %s", v, s.client)
				}
				return nil
			},
		},
	}}
}

func (s *state) controlPlaneProxies() health.Category {
	namespace := s.options.Namespace
	return health.Category{ID: "linkerd-control-plane-proxy", Checks: []health.Check{
		{
			Description: "control plane proxies are healthy", Anchor: "l5d-cp-proxy-healthy", Fatal: true, Retry: true, Surface: true,
			Run: func(ctx context.Context) error {
				pods, err := s.pods(ctx, namespace)
				if err != nil {
					return err
				}
				return workload.ProxiesReady(pods, namespace)
			},
		},
		{
			Description: "control plane proxies are up-to-date", Anchor: "l5d-cp-proxy-version", Warning: true,
			Run: func(ctx context.Context) error {
				pods, err := s.pods(ctx, namespace)
				if err != nil {
					return err
				}
				return s.proxiesCurrent(pods)
			},
		},
		{
			Description: "control plane proxies and cli versions match", Anchor: "l5d-cp-proxy-cli-version", Warning: true,
			Run: func(ctx context.Context) error {
				pods, err := s.pods(ctx, namespace)
				if err != nil {
					return err
				}
				return s.proxiesMatchClient(pods)
			},
		},
	}}
}

func (s *state) highAvailability() health.Category {
	return health.Category{ID: "linkerd-ha-checks", Checks: []health.Check{{
		Description: "multiple replicas of control plane pods", Anchor: "l5d-control-plane-replicas", Warning: true, Retry: true,
		Run: func(ctx context.Context) error {
			if !valuetree.Bool(s.values, "highAvailability") {
				return health.Skip
			}
			var short []string
			for _, component := range components {
				d, err := s.cluster.Kube.AppsV1().Deployments(s.options.Namespace).Get(ctx, "linkerd-"+component, metav1.GetOptions{})
				if err != nil {
					return err
				}
				if d.Status.AvailableReplicas <= 1 {
					short = append(short, d.Name)
				}
			}
			if len(short) > 0 {
				return fmt.Errorf("not enough replicas available for [%s]", strings.Join(short, " "))
			}
			return nil
		},
	}}}
}
