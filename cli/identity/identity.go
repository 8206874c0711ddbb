// Package identity is the command linkerd identity: it shows the certificates
// that proxies serve with (CLI chapter, section 5.10).
package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// podTimeout bounds the questions to one pod.
const podTimeout = 30 * time.Second

type options struct {
	*command.Globals
	namespace string
	selector  string
	output    string
}

// New returns the command.
func New(w *command.World, g *command.Globals) *cobra.Command {
	o := &options{Globals: g}
	cmd := &cobra.Command{
		Use:   "identity [flags] (PODS)",
		Args:  cobra.ArbitraryArgs,
		Short: "Display the certificate(s) of one or more selected pod(s)",
		Long: `Display the certificate(s) of one or more selected pod(s).

This command initiates a port-forward to a given pod or a set of pods and
fetches the TLS certificate.`,
		Example: ` # Get certificate from pod foo-bar in the default namespace.
 linkerd identity foo-bar

 # Get certificate from all pods with the label name=nginx
 linkerd identity -l name=nginx

 # Get certificates from all pods of a deployment
 linkerd identity deploy/web`,
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), w, o, args) },
	}
	cmd.AddCommand(newRotate(w, g))
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace of the pod")
	f.StringVarP(&o.selector, "selector", "l", "", "Selector (label query) to filter on, supports '=', '==', and '!='")
	f.StringVarP(&o.output, "output", "o", "", "Output format, json for names and validity of each certificate")
	return cmd
}

func run(ctx context.Context, w *command.World, o *options, args []string) error {
	if len(args) == 0 && o.selector == "" {
		return command.Failf("Provide the pod name argument or use the selector flag")
	}
	if !command.OneOf(o.output, "", "json") {
		return fmt.Errorf("unsupported format %s", o.output)
	}
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	pods, err := find(ctx, c, command.ContextNamespace(o.namespace, c), o.selector, args)
	if err != nil {
		return err
	}
	failed := false
	summaries := []summary{}
	for i, pod := range pods {
		if o.output == "" {
			fmt.Fprintf(w.Out, "\nPOD %s (%d of %d)\n\n", pod.Name, i+1, len(pods))
		}
		certificates, err := fetch(ctx, w, c, pod)
		if err != nil {
			// The other pods may be fine.
			fmt.Fprintln(w.Err, err)
			failed = true
			continue
		}
		for _, certificate := range certificates {
			if certificate.IsCA {
				continue
			}
			if o.output == "json" {
				summaries = append(summaries, summarize(pod, certificate))
				continue
			}
			fmt.Fprint(w.Out, Text(certificate))
		}
	}
	if o.output == "json" {
		data, err := json.MarshalIndent(summaries, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(w.Out, string(data))
	}
	if failed {
		return command.Silent()
	}
	return nil
}

type summary struct {
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	Names     []string  `json:"dnsNames"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serialNumber"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

func summarize(pod *corev1.Pod, c *x509.Certificate) summary {
	return summary{pod.Namespace, pod.Name, c.DNSNames, c.Issuer.String(), c.SerialNumber.String(), c.NotBefore, c.NotAfter}
}

// find returns the pods the arguments name: pods, or resources of pods.
func find(ctx context.Context, c *cluster.Cluster, namespace, selector string, args []string) ([]*corev1.Pod, error) {
	var out []*corev1.Pod
	if selector != "" {
		list, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			out = append(out, &list.Items[i])
		}
	}
	resources := false
	for _, arg := range args {
		resources = resources || strings.Contains(arg, "/")
	}
	if resources {
		targets, err := workload.Parse(args)
		if err != nil {
			return nil, err
		}
		index, err := workload.Read(ctx, c.Kube, namespace)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			objects := index.Objects(t, nil)
			if len(objects) == 0 {
				return nil, fmt.Errorf("%s not found in namespace %q", t, namespace)
			}
			for _, o := range objects {
				out = append(out, o.Pods...)
			}
		}
	} else {
		for _, name := range args {
			// A list rather than a get: it needs no more rights than the selector does.
			list, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
			if err != nil {
				return nil, err
			}
			found := false
			for i := range list.Items {
				if list.Items[i].Name == name {
					out = append(out, &list.Items[i])
					found = true
				}
			}
			if !found {
				return nil, fmt.Errorf("pods %q not found in namespace %q", name, namespace)
			}
		}
	}
	if len(out) == 0 {
		return nil, command.Failf("No pods found in namespace %q", namespace)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// fetch takes the certificates out of a TLS handshake with the proxy's admin
// port. The chain is shown, not trusted, and so is not verified.
func fetch(ctx context.Context, w *command.World, c *cluster.Cluster, pod *corev1.Pod) ([]*x509.Certificate, error) {
	if pod.Status.Phase != corev1.PodRunning {
		return nil, fmt.Errorf("pod not running: %s", pod.Name)
	}
	if workload.Proxy(pod) == nil {
		return nil, fmt.Errorf("%s: Could not fetch Certificate. Ensure that the pod(s) are meshed by running `linkerd inject`", pod.Name)
	}
	port := workload.AdminPort(pod)
	if port == 0 {
		return nil, errors.New("failed to find linkerd-admin port in linkerd-proxy container for given pod spec")
	}
	ctx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	conn, tunnel, err := w.Dial(ctx, c, pod.Namespace, pod.Name, port)
	if err != nil {
		return nil, err
	}
	defer tunnel.Close()
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{ServerName: workload.Identity(pod), InsecureSkipVerify: true}) //nolint:gosec // See above.
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("%s: Could not fetch Certificate. Ensure that the pod(s) are meshed by running `linkerd inject`: %w", pod.Name, err)
	}
	return client.ConnectionState().PeerCertificates, nil
}
