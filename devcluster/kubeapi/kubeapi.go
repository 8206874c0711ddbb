// Package kubeapi asks a cluster's API server the few things that starting a cluster needs. It speaks plain
// HTTP with the administrator's certificate, which keeps the starter free of client libraries and quick.
//
// A Client may be used from any goroutine.
package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/linkerd-go/linkerd-go/devcluster/certs"
	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// requestTimeout bounds one request; a busy machine may need seconds for one.
const requestTimeout = 20 * time.Second

// Client talks to one cluster's API server.
type Client struct {
	base string
	http *http.Client
}

// New reads the certificates of c.
func New(c plan.Cluster) (*Client, error) {
	pair, err := tls.LoadX509KeyPair(c.State("pki", certs.Admin+".crt"), c.State("pki", certs.Admin+".key"))
	if err != nil {
		return nil, fmt.Errorf("load administrator's certificate: %w", err)
	}
	ca, err := os.ReadFile(c.State("pki", certs.CA+".crt"))
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &Client{
		base: c.APIServer(),
		http: &http.Client{
			Timeout: requestTimeout,
			Transport: &http.Transport{
				Proxy:           nil, // the node is next door, whatever the environment says
				TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12},
			},
		},
	}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get reads the object at path into out, or only checks for success if out is nil.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	body, err := c.do(ctx, http.MethodGet, path, "", nil)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// Apply creates or updates an object. What others have set in it stays.
func (c *Client) Apply(ctx context.Context, object config.Object) error {
	_, err := c.do(ctx, http.MethodPatch, object.Path+"?fieldManager=devcluster&force=true", "application/apply-patch+yaml", object.JSON)
	return err
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err // names method and URL itself
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode/100 != 2 {
		var status struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(data, &status) == nil && status.Message != "" {
			data = []byte(status.Message)
		}
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(data))
	}
	return data, nil
}

// condition is the part of a status condition that matters here.
type condition struct {
	Type, Status, Message string
	LastHeartbeatTime     time.Time
}

// NodeReady reports whether the node has said that it is ready since the given time, and if not, why. What
// it said before may be an earlier kubelet's word.
func (c *Client) NodeReady(ctx context.Context, name string, since time.Time) (ready bool, why string, err error) {
	var node struct {
		Status struct {
			Conditions []condition `json:"conditions"`
		} `json:"status"`
	}
	if err := c.Get(ctx, "/api/v1/nodes/"+name, &node); err != nil {
		return false, "", err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		// The API's times are whole seconds.
		if condition.LastHeartbeatTime.Before(since.Truncate(time.Second)) {
			break
		}
		return condition.Status == "True", condition.Message, nil
	}
	return false, "the kubelet has not reported yet", nil
}

// KubeletKnowsPods reports whether the kubelet has learnt which pods it has to run. Before, it refuses
// requests for their logs as if they did not exist.
func (c *Client) KubeletKnowsPods(ctx context.Context, node string) (bool, error) {
	var pods struct {
		Items []struct{} `json:"items"`
	}
	err := c.Get(ctx, "/api/v1/nodes/"+node+"/proxy/pods", &pods)
	return len(pods.Items) > 0, err
}

// Available reports how many pods of a deployment are available, of how many wanted.
func (c *Client) Available(ctx context.Context, namespace, name string) (available, wanted int, err error) {
	var deployment struct {
		Metadata struct {
			Generation int64 `json:"generation"`
		} `json:"metadata"`
		Spec struct {
			Replicas int `json:"replicas"`
		} `json:"spec"`
		Status struct {
			ObservedGeneration int64 `json:"observedGeneration"`
			AvailableReplicas  int   `json:"availableReplicas"`
		} `json:"status"`
	}
	if err := c.Get(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, &deployment); err != nil {
		return 0, 0, err
	}
	if deployment.Status.ObservedGeneration < deployment.Metadata.Generation {
		return 0, deployment.Spec.Replicas, nil
	}
	return deployment.Status.AvailableReplicas, deployment.Spec.Replicas, nil
}

// Events returns the latest warnings of a namespace, newest last, for explaining why nothing happens.
func (c *Client) Events(ctx context.Context, namespace string, limit int) ([]string, error) {
	var list struct {
		Items []struct {
			Type, Reason, Message string
			InvolvedObject        struct{ Kind, Name string }
		} `json:"items"`
	}
	if err := c.Get(ctx, "/api/v1/namespaces/"+namespace+"/events", &list); err != nil {
		return nil, err
	}
	var lines []string
	for _, e := range list.Items {
		if e.Type != "Normal" {
			lines = append(lines, fmt.Sprintf("%s/%s: %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message))
		}
	}
	return lines[max(0, len(lines)-limit):], nil
}
