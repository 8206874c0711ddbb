package check

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/scrape"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// trust is what a running proxy has to do with the present trust anchors.
type trust int

const (
	// trustUnknown: the proxy does not say. It may be one that reads its
	// anchors once.
	trustUnknown trust = iota
	// trustOther: it takes anchors from the control plane, and has not taken
	// these yet.
	trustOther
	// trustPresent: it uses them.
	trustPresent
)

// Limits for asking proxies: how many at a time, and for how long each. The
// check as a whole has half a minute.
const (
	askedAtOnce = 16
	askTimeout  = 5 * time.Second
)

// trusts asks proxies which anchors they use; the answers are in the order of
// the pods.
func (s *state) trusts(ctx context.Context, pods []*corev1.Pod, bundle string) []trust {
	out := make([]trust, len(pods))
	slots := make(chan struct{}, askedAtOnce)
	var all sync.WaitGroup
	for i, pod := range pods {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			samples, err := s.proxyMetrics(ctx, pod)
			if err == nil {
				out[i] = trustOf(samples, bundle)
			}
		})
	}
	all.Wait()
	return out
}

// trustOf reads the metrics of a proxy.
func trustOf(samples []scrape.Sample, bundle string) trust {
	for _, sample := range samples {
		switch {
		case sample.Name != names.MetricTrustAnchorsHash:
		case sample.Value == names.TrustBundleHash([]byte(bundle)):
			return trustPresent
		default:
			return trustOther
		}
	}
	return trustUnknown
}

func (s *state) proxyMetrics(ctx context.Context, pod *corev1.Pod) ([]scrape.Sample, error) {
	port := workload.AdminPort(pod)
	if port == 0 {
		return nil, errors.New("proxy cannot be asked")
	}
	return s.metrics(ctx, pod, port)
}

// metrics asks a port of a pod for them.
func (s *state) metrics(ctx context.Context, pod *corev1.Pod, port int32) ([]scrape.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if pod.Status.Phase != corev1.PodRunning {
		return nil, errors.New("pod does not run")
	}
	conn, tunnel, err := s.world.Dial(ctx, s.cluster, pod.Namespace, pod.Name, port)
	if err != nil {
		return nil, err
	}
	defer tunnel.Close()
	text, err := scrape.Text(ctx, func(context.Context) (net.Conn, error) { return conn, nil })
	if err != nil {
		return nil, err
	}
	return scrape.Parse(text)
}
