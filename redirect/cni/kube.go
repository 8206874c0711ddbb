package cni

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A kube asks the Kubernetes API. Three kinds of question do not need the
// standard client, which would make the plugin, that is started for every pod,
// many times larger.
type kube struct {
	client *http.Client
	root   string
	token  string
}

// requestTimeout bounds one question. The container runtime tries again anyway.
const requestTimeout = 10 * time.Second

// maxBody bounds an answer; etcd holds no larger objects.
const maxBody = 4 << 20

// newKube prepares the client that a plugin configuration asks for.
func newKube(c KubeConfig) (*kube, error) {
	k, err := ReadKubeconfig(c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	root := k.Server
	if c.APIRoot != "" {
		root = c.APIRoot
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(k.CA) > 0 {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(k.CA) {
			return nil, fmt.Errorf("kubeconfig %s holds no usable CA certificate", c.Kubeconfig)
		}
	}
	return &kube{
		client: &http.Client{
			Timeout:   requestTimeout,
			Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true},
		},
		root:  strings.TrimSuffix(root, "/"),
		token: k.Token,
	}, nil
}

func (k *kube) pod(ctx context.Context, p podRef) (*Pod, error) {
	var pod Pod
	return &pod, k.get(ctx, &pod, "namespaces", p.namespace, "pods", p.name)
}

func (k *kube) namespace(ctx context.Context, name string) (*Namespace, error) {
	var ns Namespace
	return &ns, k.get(ctx, &ns, "namespaces", name)
}

func (k *kube) service(ctx context.Context, namespace, name string) (*Service, error) {
	var svc Service
	return &svc, k.get(ctx, &svc, "namespaces", namespace, "services", name)
}

func (k *kube) get(ctx context.Context, into any, path ...string) error {
	u, err := url.JoinPath(k.root, append([]string{"api", "v1"}, path...)...)
	if err != nil {
		return fmt.Errorf("address of the Kubernetes API: %w", err)
	}
	what := strings.Join(path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return fmt.Errorf("get %s: %w", what, err)
	}
	req.Header.Set("authorization", "Bearer "+k.token)
	req.Header.Set("accept", "application/json")
	req.Header.Set("user-agent", Type)
	resp, err := k.client.Do(req)
	if err != nil {
		return fmt.Errorf("get %s: %w", what, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("get %s: %w", what, err)
	}
	if resp.StatusCode != http.StatusOK {
		// The API explains itself in a Status object.
		var status struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(body, &status) != nil || status.Message == "" {
			status.Message = "no further explanation"
		}
		return fmt.Errorf("get %s: the Kubernetes API answers %s: %w", what, resp.Status, errors.New(status.Message))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("get %s: %w", what, err)
	}
	return nil
}
