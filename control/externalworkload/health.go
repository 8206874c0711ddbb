package externalworkload

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/linkerd-go/linkerd-go/api/crd/workload/v1beta1"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

const (
	// healthPeriod is the time between questions to one workload, and healthTimeout how long an answer may take.
	healthPeriod  = 10 * time.Second
	healthTimeout = 3 * time.Second
	// healthFailures is how many questions in a row go wrong before a workload that was well is not any more, as for
	// probes of pods. One that is well is told at once.
	healthFailures = 3
	// healthBody is how much of an answer is read.
	healthBody = 10 << 10
)

// Reasons of the condition.
const (
	reasonWell   = "HealthCheckSucceeded"
	reasonUnwell = "HealthCheckFailed"
)

// healthURL turns the annotation of a workload, `PORT/PATH`, into a URL at its first address.
func healthURL(w *Workload, text string) (string, error) {
	port, path, _ := strings.Cut(text, "/")
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		i := slices.IndexFunc(w.Ports, func(p WorkloadPort) bool { return p.Name == port && port != "" })
		if i < 0 {
			return "", fmt.Errorf("%q begins with neither a port nor the name of one", text)
		}
		number = uint64(w.Ports[i].Port)
	}
	if len(w.IPs) == 0 {
		return "", fmt.Errorf("the workload has no address")
	}
	return "http://" + net.JoinHostPort(w.IPs[0].String(), strconv.FormatUint(number, 10)) + "/" + path, nil
}

// condition returns the condition that says whether the workload is ready, nil if there is none.
func (w *Workload) condition() *v1beta1.WorkloadCondition {
	i := slices.IndexFunc(w.Conditions, func(c v1beta1.WorkloadCondition) bool { return c.Type == v1beta1.ConditionReady })
	if i < 0 {
		return nil
	}
	return &w.Conditions[i]
}

// Ask makes the request of a health check. A connection of its own each time: what matters is whether one can be made.
func Ask(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Close = true
	request.Header.Set("User-Agent", "linkerd-go-health")
	response, err := healthClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, healthBody)) // the status is the answer
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// healthClient follows no redirection, which is a good answer as it is, and uses no proxy of the environment.
var healthClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// health asks workloads, each from a goroutine of its own, while run runs.
type health struct {
	controller *Controller
	asking     sync.WaitGroup

	mu sync.Mutex // guards the rest
	// ctx is that of run; nil outside of it.
	ctx context.Context
	// asked are the workloads that are asked.
	asked map[kube.Key]asked
}

// asked is a workload that is asked.
type asked struct {
	url  string
	stop context.CancelFunc
}

func newHealth(c *Controller) *health {
	return &health{controller: c, asked: make(map[kube.Key]asked)}
}

// run asks until ctx is done.
func (h *health) run(ctx context.Context) {
	h.mu.Lock()
	h.ctx = ctx
	h.mu.Unlock()
	for _, key := range h.controller.workloads.Keys() {
		if w, ok := h.controller.workloads.Get(key.Namespace, key.Name); ok {
			h.look(key, w)
		}
	}
	<-ctx.Done()
	h.mu.Lock()
	h.ctx = nil
	clear(h.asked)
	h.mu.Unlock()
	h.asking.Wait()
}

// look begins to ask a workload that wants it, or ends it; w is nil for one that is gone.
func (h *health) look(key kube.Key, w *Workload) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil {
		return
	}
	url := ""
	if w != nil {
		url = w.Health
	}
	old := h.asked[key]
	if old.url == url {
		return
	}
	if old.stop != nil {
		old.stop()
		delete(h.asked, key)
	}
	if url == "" {
		return
	}
	ctx, stop := context.WithCancel(h.ctx)
	h.asked[key] = asked{url, stop}
	h.asking.Go(func() { h.follow(ctx, key, url) })
}

// follow asks one workload until ctx is done.
func (h *health) follow(ctx context.Context, key kube.Key, url string) {
	options := &h.controller.options
	question := options.Ask
	if question == nil {
		question = Ask
	}
	failures := 0
	for {
		limited, cancel := context.WithTimeout(ctx, healthTimeout)
		failure := question(limited, url)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if failure != nil {
			failures++
		} else {
			failures = 0
		}
		if err := h.report(ctx, key, failure, failures); err != nil && ctx.Err() == nil {
			options.Logger.Warn("condition of external workload not written; trying again", "workload", key, "error", err)
		}
		// Those that began together are not asked together for ever.
		timer := time.NewTimer(healthPeriod + rand.N(healthPeriod/10))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// report writes the condition if it says something else. A failure counts against a ready workload when it is not the first.
func (h *health) report(ctx context.Context, key kube.Key, failure error, failures int) error {
	w, ok := h.controller.workloads.Get(key.Namespace, key.Name)
	if !ok {
		return nil
	}
	next := nextCondition(w.condition(), failure, failures, metav1.Now())
	if next == nil {
		return nil
	}
	// Other conditions are somebody else's. With the version, one that was written meanwhile is not lost: this write fails.
	conditions := slices.DeleteFunc(slices.Clone(w.Conditions), func(c v1beta1.WorkloadCondition) bool { return c.Type == next.Type })
	var list []any
	for _, c := range append(conditions, *next) {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&c)
		if err != nil {
			return fmt.Errorf("encoding a condition: %w", err)
		}
		// A time that nobody wrote is null, which the schema does not take.
		maps.DeleteFunc(fields, func(_ string, value any) bool { return value == nil })
		list = append(list, fields)
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": w.Version},
		"status":   map[string]any{"conditions": list},
	})
	if err != nil {
		return fmt.Errorf("encoding the conditions: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = h.controller.options.Clients.Dynamic.Resource(workloads).Namespace(key.Namespace).
		Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		h.controller.options.Logger.Info("external workload asked whether it is well", "workload", key, "ready", next.Status, "message", next.Message)
	}
	return err
}

// nextCondition returns what the condition becomes after a question with failures in a row, failure being the last of them;
// nil if it stays as it is.
func nextCondition(is *v1beta1.WorkloadCondition, failure error, failures int, now metav1.Time) *v1beta1.WorkloadCondition {
	next := &v1beta1.WorkloadCondition{
		Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, LastProbeTime: now, LastTransitionTime: now, Reason: reasonWell,
	}
	if failure != nil {
		next.Status, next.Reason, next.Message = metav1.ConditionFalse, reasonUnwell, failure.Error()
	}
	switch {
	case is == nil:
		return next
	case is.Status == next.Status:
		return nil
	case is.Status == metav1.ConditionTrue && failures < healthFailures:
		return nil
	}
	return next
}
