// Package heartbeat tells the mesh's makers, once a day, that an installation is alive: its versions, how large it is and
// how fast, and nothing about the workloads in it.
//
//	values := heartbeat.Collect(ctx, sources, logger)
//	err := heartbeat.Send(ctx, http.DefaultClient, heartbeat.URL, values)
//
// A source that fails is logged and left out. Source: control plane chapter, section 12. Nothing here keeps state.
package heartbeat

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

// URL is where heartbeats are sent.
const URL = "https://versioncheck.linkerd.io/version.json"

// Timeout is how long sending may take.
const Timeout = 10 * time.Second

// Querier asks Prometheus for the value of an expression at a time; *promv1.API of its client does.
type Querier interface {
	Query(ctx context.Context, query string, at time.Time, opts ...promv1.Option) (model.Value, promv1.Warnings, error)
}

// Sources are where values come from.
type Sources struct {
	// Clients reach the cluster.
	Clients *kube.Clients
	// Namespace is the control plane's.
	Namespace string
	// Prometheus has the metrics of the mesh.
	Prometheus Querier
}

var serviceProfiles = schema.GroupVersionResource{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}

// Collect returns all values that could be had.
func Collect(ctx context.Context, from Sources, logger *slog.Logger) url.Values {
	values := url.Values{
		"source":  {"heartbeat"},
		"version": {version.Version},
		"arch":    {runtime.GOARCH},
	}
	for _, part := range []struct {
		name    string
		collect func(context.Context, Sources, url.Values) error
	}{
		{"installation", installation},
		{"kubernetes version", kubernetesVersion},
		{"extensions", extensions},
		{"service profiles", profiles},
	} {
		if err := part.collect(ctx, from, values); err != nil {
			logger.Error("part of the heartbeat missing", "part", part.name, "error", err)
		}
	}
	for _, q := range queries(from.Namespace) {
		value, err := sample(ctx, from.Prometheus, q.expression)
		if err != nil {
			logger.Error("part of the heartbeat missing", "part", q.name, "error", err)
			continue
		}
		values.Set(q.name, q.format(value))
	}
	return values
}

func installation(ctx context.Context, from Sources, values url.Values) error {
	config, err := from.Clients.Kube.CoreV1().ConfigMaps(from.Namespace).Get(ctx, names.ConfigMapConfig, metav1.GetOptions{})
	if err != nil {
		return err
	}
	values.Set("uuid", string(config.UID))
	values.Set("install-time", strconv.FormatInt(config.CreationTimestamp.Unix(), 10))
	return nil
}

func kubernetesVersion(_ context.Context, from Sources, values url.Values) error {
	info, err := from.Clients.Kube.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	values.Set("k8s-version", info.GitVersion)
	return nil
}

func extensions(ctx context.Context, from Sources, values url.Values) error {
	list, err := from.Clients.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: names.LabelExtension})
	if err != nil {
		return err
	}
	for _, namespace := range list.Items {
		values.Set("ext-"+namespace.Labels[names.LabelExtension], "1")
	}
	return nil
}

func profiles(ctx context.Context, from Sources, values url.Values) error {
	if err := kube.CheckAccess(ctx, from.Clients.Kube, authorizationv1.ResourceAttributes{
		Verb: "list", Group: serviceProfiles.Group, Version: serviceProfiles.Version, Resource: serviceProfiles.Resource,
	}); err != nil {
		return err
	}
	list, err := from.Clients.Dynamic.Resource(serviceProfiles).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	values.Set("service-profile-count", strconv.Itoa(len(list.Items)))
	return nil
}

// query is a value that Prometheus knows.
type query struct {
	name, expression string
	format           func(float64) string
}

func queries(namespace string) []query {
	whole := func(v float64) string { return strconv.FormatInt(int64(math.Round(v)), 10) }
	fraction := func(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
	list := []query{
		{"total-rps", `sum(rate(request_total{direction="inbound", job="linkerd-proxy"}[30s]))`, whole},
		{"meshed-pods", `count(count by (pod) (request_total{job="linkerd-proxy"}))`, whole},
		{"p99-handle-us", `histogram_quantile(0.99, sum by (le) (rate(request_handle_us_bucket{job="linkerd-proxy"}[24h])))`, whole},
		{"proxy-injector-injections", `sum(proxy_inject_admission_responses_total{job="linkerd-controller", skip="false"})`, whole},
	}
	for _, container := range []string{names.ContainerProxy, names.ContainerDestination, "prometheus"} {
		selector := fmt.Sprintf(`{job="kubernetes-nodes-cadvisor", container=%q}`, container)
		if container != names.ContainerProxy {
			selector = fmt.Sprintf(`{job="kubernetes-nodes-cadvisor", container=%q, namespace=%q}`, container, namespace)
		}
		list = append(list,
			query{"max-mem-" + container, "max(container_memory_working_set_bytes" + selector + ")", whole},
			query{"p95-cpu-" + container, "max(quantile_over_time(0.95, rate(container_cpu_usage_seconds_total" + selector + "[5m])[24h:5m]))", fraction})
	}
	return list
}

// sample returns the one sample that an expression must have.
func sample(ctx context.Context, prometheus Querier, expression string) (float64, error) {
	value, _, err := prometheus.Query(ctx, expression, time.Time{})
	if err != nil {
		return 0, err
	}
	vector, ok := value.(model.Vector)
	if !ok || len(vector) != 1 {
		return 0, fmt.Errorf("query %s: want one sample, got %v", expression, value)
	}
	if math.IsNaN(float64(vector[0].Value)) {
		return 0, fmt.Errorf("query %s: not a number", expression)
	}
	return float64(vector[0].Value), nil
}

// Send sends the values.
func Send(ctx context.Context, client *http.Client, to string, values url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to+"?"+values.Encode(), nil)
	if err != nil {
		return fmt.Errorf("making the heartbeat: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("sending the heartbeat: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("sending the heartbeat: unexpected status %s", response.Status)
	}
	return nil
}
