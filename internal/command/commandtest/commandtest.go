// Package commandtest makes a World for tests of commands: streams are
// buffers, the clock stands still until somebody waits on it, and the cluster
// is made of client-go's fakes.
//
// The fakes imitate reading and listing by label; they do not default fields,
// run admission or garbage collection.
package commandtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// builtin has the kinds of the typed fake client; client-go's own scheme gets
// more from packages that happen to be linked.
var builtin = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := fake.AddToScheme(s); err != nil {
		panic(err)
	}
	return s
}()

// Start is when the clock of every World stands at first.
var Start = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// Run holds a World and what a command wrote to it.
type Run struct {
	World    *command.World
	Out, Err *bytes.Buffer
	// Files are what ReadFile finds.
	Files map[string]string
	// Environment is what Getenv finds.
	Environment map[string]string
	// Ports serve connections to pods, by "namespace/pod:port".
	Ports map[string]func(net.Conn)

	now time.Time
}

// ErrOffline is what every contact outside the test gets.
var ErrOffline = errors.New("there is no network in this test")

// New returns a World over a cluster; nil stands for no cluster at all.
func New(t *testing.T, c *cluster.Cluster) *Run {
	t.Helper()
	r := &Run{
		Out: new(bytes.Buffer), Err: new(bytes.Buffer),
		Files: map[string]string{}, Environment: map[string]string{}, Ports: map[string]func(net.Conn){},
		now: Start,
	}
	r.World = &command.World{
		In:     new(bytes.Buffer),
		Out:    r.Out,
		Err:    r.Err,
		Getenv: func(name string) string { return r.Environment[name] },
		Now:    func() time.Time { return r.now },
		After: func(d time.Duration) <-chan time.Time {
			r.now = r.now.Add(d)
			done := make(chan time.Time, 1)
			done <- r.now
			return done
		},
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := r.Files[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
		HTTP: &http.Client{Transport: offline{}},
		Connect: func(cluster.Options) (*cluster.Cluster, error) {
			if c == nil {
				return nil, ErrOffline
			}
			return c, nil
		},
		Dial: func(_ context.Context, _ *cluster.Cluster, namespace, pod string, port int32) (net.Conn, io.Closer, error) {
			serve, ok := r.Ports[Address(namespace, pod, port)]
			if !ok {
				return nil, nil, ErrOffline
			}
			here, there := net.Pipe()
			go func() {
				serve(there)
				_ = there.Close()
			}()
			return here, here, nil
		},
		LookPath: func(string) (string, error) { return "", errors.New("executable file not found in $PATH") },
		Exec: func(context.Context, string, []string, io.Reader, io.Writer, io.Writer) error {
			return errors.New("nothing can be executed in this test")
		},
		Self: func() (string, error) { return "linkerd", nil },
	}
	return r
}

// Address is the key of a port in Run.Ports.
func Address(namespace, pod string, port int32) string {
	return fmt.Sprintf("%s/%s:%d", namespace, pod, port)
}

type offline struct{}

func (offline) RoundTrip(*http.Request) (*http.Response, error) { return nil, ErrOffline }

// kinds are the list kinds of what is not in client-go's scheme.
var kinds = map[schema.GroupVersionResource]string{
	{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}: "CustomResourceDefinitionList",
	{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}:             "APIServiceList",
	{Group: "policy.linkerd.io", Version: "v1alpha1", Resource: "meshtlsauthentications"}: "MeshTLSAuthenticationList",
	{Group: "policy.linkerd.io", Version: "v1alpha1", Resource: "networkauthentications"}: "NetworkAuthenticationList",
	{Group: "policy.linkerd.io", Version: "v1alpha1", Resource: "authorizationpolicies"}:  "AuthorizationPolicyList",
	{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"}:                 "ServerList",
	{Group: "policy.linkerd.io", Version: "v1beta1", Resource: "serverauthorizations"}:    "ServerAuthorizationList",
	{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "httproutes"}:              "HTTPRouteList",
	{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}:               "ServiceProfileList",
	{Group: "multicluster.linkerd.io", Version: "v1alpha3", Resource: "links"}:            "LinkList",
}

// Cluster returns a cluster that holds the objects. Built-in kinds are found
// through both clients, others through the dynamic one.
func Cluster(t *testing.T, objects ...runtime.Object) *cluster.Cluster {
	t.Helper()
	var typed, untyped []runtime.Object
	for _, o := range objects {
		u, ok := o.(*unstructured.Unstructured)
		if !ok {
			typed = append(typed, o)
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
			if err != nil {
				t.Fatal(err)
			}
			u = &unstructured.Unstructured{Object: content}
			gvks, _, err := builtin.ObjectKinds(o)
			if err != nil {
				t.Fatal(err)
			}
			u.SetGroupVersionKind(gvks[0])
		}
		untyped = append(untyped, u)
	}
	kube := fake.NewClientset(typed...)
	kube.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &version.Info{Major: "1", Minor: "36", GitVersion: "v1.36.3"}
	kube.Resources = []*metav1.APIResourceList{{
		GroupVersion: "discovery.k8s.io/v1",
		APIResources: []metav1.APIResource{{Name: "endpointslices", Kind: "EndpointSlice", Namespaced: true}},
	}}
	// The dynamic fake wants a scheme in which everything is unstructured.
	anything := runtime.NewScheme()
	for gvk := range builtin.AllKnownTypes() {
		if strings.HasSuffix(gvk.Kind, "List") {
			anything.AddKnownTypeWithName(gvk, &unstructured.UnstructuredList{})
		} else {
			anything.AddKnownTypeWithName(gvk, &unstructured.Unstructured{})
		}
	}
	dynamic := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(anything, kinds)
	for _, u := range untyped {
		gvr, _ := meta.UnsafeGuessKindToResource(u.GetObjectKind().GroupVersionKind())
		if err := dynamic.Tracker().Create(gvr, u, u.(*unstructured.Unstructured).GetNamespace()); err != nil {
			t.Fatal(err)
		}
	}
	return &cluster.Cluster{Kube: kube, Dynamic: dynamic, Namespace: "default"}
}

// Objects decodes a manifest: built-in kinds to their types, others as they
// are.
func Objects(t *testing.T, manifest []byte) []runtime.Object {
	t.Helper()
	var out []runtime.Object
	for _, document := range bytes.Split(append([]byte("\n"), manifest...), []byte("\n---\n")) {
		content := map[string]any{}
		if err := yaml.Unmarshal(document, &content); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if len(content) == 0 {
			continue
		}
		u := &unstructured.Unstructured{Object: content}
		if builtin.Recognizes(u.GroupVersionKind()) {
			object, _, err := serializer.NewCodecFactory(builtin).UniversalDeserializer().Decode(document, nil, nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, document)
			}
			out = append(out, object)
			continue
		}
		out = append(out, u)
	}
	return out
}

// Metrics serves a text as the metrics of a pod. Several texts are served one
// after the other, the last again and again.
func Metrics(texts ...string) func(net.Conn) {
	next := 0
	return func(c net.Conn) {
		text := texts[min(next, len(texts)-1)]
		next++
		listener := &single{conn: c, done: make(chan struct{})}
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, text)
			}),
			ConnState: func(_ net.Conn, s http.ConnState) {
				if s == http.StateClosed || s == http.StateHijacked {
					_ = listener.Close()
				}
			},
		}
		_ = server.Serve(listener)
	}
}

// single is a listener of one connection.
type single struct {
	conn  net.Conn
	taken bool
	once  sync.Once
	done  chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if !s.taken {
		s.taken = true
		return s.conn, nil
	}
	<-s.done
	return nil, net.ErrClosed
}

func (s *single) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }

// Slice is the EndpointSlice of a Service with one pod behind it.
func Slice(namespace, service, pod string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Endpoints:  []discoveryv1.Endpoint{{TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod}}},
	}
}
