package cli

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/scrape"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// Numbers of a collection.
const (
	// atOnce bounds the pods asked at the same time.
	atOnce = 16
	// podTimeout bounds the questions to one pod.
	podTimeout = 15 * time.Second
	// apart is the time between two looks at a counter.
	apart = 5 * time.Second
)

// observation is what one proxy said.
type observation struct {
	pod *corev1.Pod
	// rates are counters per second, gauges are values as of the last look.
	rates, gauges []scrape.Sample
}

// collector asks proxies for their metrics.
type collector struct {
	world   *command.World
	cluster *cluster.Cluster
	// window is the span the rates are wanted for.
	window time.Duration
}

// meshed returns the pods that have a running proxy.
func meshed(pods []*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range pods {
		if p.Status.Phase == corev1.PodRunning && workload.AdminPort(p) != 0 {
			out = append(out, p)
		}
	}
	return out
}

// once looks at every pod a single time.
func (c *collector) once(ctx context.Context, pods []*corev1.Pod) ([]observation, error) {
	looks, err := c.look(ctx, pods)
	if err != nil {
		return nil, err
	}
	var out []observation
	for i, l := range looks {
		if l.samples != nil {
			out = append(out, observation{pod: pods[i], gauges: l.samples})
		}
	}
	return out, nil
}

// rates looks at every pod and turns its counters into rates. A proxy that is
// younger than the window has counted nothing but what is wanted, so its
// counters are divided by its age; the others are looked at a second time.
func (c *collector) rates(ctx context.Context, pods []*corev1.Pod) ([]observation, error) {
	first, err := c.look(ctx, pods)
	if err != nil {
		return nil, err
	}
	out := make([]observation, 0, len(pods))
	var again []*corev1.Pod
	before := map[*corev1.Pod]look{}
	for i, l := range first {
		if l.samples == nil {
			continue
		}
		if age := l.at.Sub(l.started); !l.started.IsZero() && age > 0 && age <= c.window {
			out = append(out, observation{pod: pods[i], rates: perSecond(l.samples, nil, age), gauges: l.samples})
			continue
		}
		again = append(again, pods[i])
		before[pods[i]] = l
	}
	if len(again) == 0 {
		return out, nil
	}
	select {
	case <-c.world.After(min(apart, c.window)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	second, err := c.look(ctx, again)
	if err != nil {
		return nil, err
	}
	for i, l := range second {
		if l.samples == nil {
			continue
		}
		earlier := before[again[i]]
		if l.started.After(earlier.at) {
			// The proxy restarted between the looks and began to count anew.
			out = append(out, observation{pod: again[i], rates: perSecond(l.samples, nil, max(l.at.Sub(l.started), time.Second)), gauges: l.samples})
			continue
		}
		if elapsed := l.at.Sub(earlier.at); elapsed > 0 {
			out = append(out, observation{pod: again[i], rates: perSecond(l.samples, earlier.samples, elapsed), gauges: l.samples})
		}
	}
	return out, nil
}

// look is one scrape; samples is nil when the pod could not be asked.
type look struct {
	at      time.Time
	started time.Time
	samples []scrape.Sample
}

// look scrapes all pods. Pods that cannot be asked are named on standard error
// and left out; it is an error if that is all of them.
func (c *collector) look(ctx context.Context, pods []*corev1.Pod) ([]look, error) {
	out := make([]look, len(pods))
	errs := make([]error, len(pods))
	slots := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i, pod := range pods {
		wait.Add(1)
		go func() {
			defer wait.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i], errs[i] = c.scrape(ctx, pod)
		}()
	}
	wait.Wait()
	failed := 0
	for i, err := range errs {
		if err != nil {
			failed++
			fmt.Fprintf(c.world.Err, "no metrics from pod %s/%s: %s\n", pods[i].Namespace, pods[i].Name, err)
		}
	}
	if failed > 0 && failed == len(pods) {
		return nil, fmt.Errorf("none of %d proxies answered", failed)
	}
	return out, nil
}

func (c *collector) scrape(ctx context.Context, pod *corev1.Pod) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	conn, tunnel, err := c.world.Dial(ctx, c.cluster, pod.Namespace, pod.Name, workload.AdminPort(pod))
	if err != nil {
		return look{}, err
	}
	defer tunnel.Close()
	text, err := scrape.Text(ctx, func(context.Context) (net.Conn, error) { return conn, nil })
	if err != nil {
		return look{}, err
	}
	at := c.world.Now()
	samples, err := scrape.Parse(text)
	if err != nil {
		return look{}, err
	}
	l := look{at: at, samples: samples}
	if l.samples == nil {
		l.samples = []scrape.Sample{}
	}
	for _, s := range samples {
		if s.Name == "process_start_time_seconds" && s.Value > 0 {
			whole, part := math.Modf(s.Value)
			l.started = time.Unix(int64(whole), int64(part*1e9))
		}
	}
	return l, nil
}

// perSecond divides the growth of each series by the time. A series that was
// not there before has grown from zero.
func perSecond(now, before []scrape.Sample, elapsed time.Duration) []scrape.Sample {
	earlier := make(map[string]float64, len(before))
	for _, s := range before {
		earlier[key(s)] = s.Value
	}
	out := make([]scrape.Sample, 0, len(now))
	for _, s := range now {
		grown := s.Value
		if v, ok := earlier[key(s)]; ok && v <= s.Value {
			grown -= v
		}
		s.Value = grown / elapsed.Seconds()
		out = append(out, s)
	}
	return out
}
