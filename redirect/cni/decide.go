package cni

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/redirect/install"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// Type is the plugin's name: that of its binary and of its entry in network
// configurations.
const Type = "linkerd-cni"

// Config is the plugin's entry in a network configuration.
type Config struct {
	types.PluginConf

	// LogLevel is debug or info; anything else is warn.
	LogLevel string `json:"log_level"`
	// Linkerd says what to redirect.
	Linkerd ProxyConfig `json:"linkerd"`
	// Kubernetes says where the API is.
	Kubernetes KubeConfig `json:"kubernetes"`
}

// ProxyConfig is the same as the flags of the init container.
type ProxyConfig struct {
	InboundProxyPort      int      `json:"incoming-proxy-port"`
	OutboundProxyPort     int      `json:"outgoing-proxy-port"`
	ProxyUID              int      `json:"proxy-uid"`
	ProxyGID              int      `json:"proxy-gid"`
	PortsToRedirect       []int    `json:"ports-to-redirect"`
	InboundPortsToIgnore  []string `json:"inbound-ports-to-ignore"`
	OutboundPortsToIgnore []string `json:"outbound-ports-to-ignore"`
	SubnetsToIgnore       []string `json:"subnets-to-ignore"`
	// OutboundSubnetsToIgnore is an addition of ours.
	OutboundSubnetsToIgnore []string `json:"outbound-subnets-to-ignore"`
	Simulate                bool     `json:"simulate"`
	UseWaitFlag             bool     `json:"use-wait-flag"`
	IptablesMode            string   `json:"iptables-mode"`
	IPv6                    bool     `json:"ipv6"`
}

// KubeConfig says how the API is reached.
type KubeConfig struct {
	// Kubeconfig is the path of a file that [Kubeconfig] describes.
	Kubeconfig string `json:"kubeconfig"`
	// APIRoot, when not empty, is used instead of the server in the file.
	APIRoot string `json:"k8s_api_root"`
}

// ParseConfig reads the configuration that the container runtime passes.
func ParseConfig(data []byte) (*Config, error) {
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("parse network configuration: %w", err)
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, fmt.Errorf("parse prevResult: %w", err)
	}
	return &c, nil
}

// result is what ADD prints: what the plugin before this one printed.
func (c *Config) result() types.Result {
	if c.PrevResult != nil {
		return c.PrevResult
	}
	return &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
}

// podRef names the pod that a call is about.
type podRef struct {
	namespace, name string
}

// parseArgs reads the pod's name from the CNI_ARGS variable. It reports false
// if there is no pod, for example because the runtime is not Kubernetes'.
func parseArgs(args string) (podRef, bool) {
	var p podRef
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			p.namespace = value
		case "K8S_POD_NAME":
			p.name = value
		}
	}
	return p, p.namespace != "" && p.name != ""
}

// Pod is what the plugin looks at in a pod.
type Pod struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		InitContainers []Container `json:"initContainers"`
		Containers     []Container `json:"containers"`
	} `json:"spec"`
}

// Namespace is what the plugin looks at in a namespace.
type Namespace struct {
	Metadata Metadata `json:"metadata"`
}

// Metadata of an object.
type Metadata struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Container of a pod.
type Container struct {
	Name string `json:"name"`
}

// Service is what the plugin looks at in a Service.
type Service struct {
	Spec struct {
		Ports []struct {
			Port int `json:"port"`
			// TargetPort is a number or a name.
			TargetPort any `json:"targetPort"`
		} `json:"ports"`
	} `json:"spec"`
}

// skipReason says why a pod gets no rules; empty if it gets them.
func skipReason(p *Pod) string {
	named := func(name string) func(Container) bool {
		return func(c Container) bool { return c.Name == name }
	}
	if slices.ContainsFunc(p.Spec.InitContainers, named(names.ContainerInit)) {
		return "the pod redirects its traffic by an init container"
	}
	if !slices.ContainsFunc(p.Spec.Containers, named(names.ContainerProxy)) &&
		!slices.ContainsFunc(p.Spec.InitContainers, named(names.ContainerProxy)) {
		return "the pod has no proxy"
	}
	return ""
}

// isControlPlane reports whether a pod belongs to the control plane, which must
// reach the Kubernetes API before any proxy works.
func isControlPlane(p *Pod) bool {
	_, ok := p.Metadata.Labels[names.LabelControlPlaneComponent]
	return ok
}

// apiPorts lists the ports by which pods reach the Kubernetes API. svc is nil if
// it could not be found out.
func apiPorts(svc *Service) []string {
	if svc == nil {
		return []string{"443", "6443"}
	}
	var out []string
	for _, p := range svc.Spec.Ports {
		out = append(out, strconv.Itoa(p.Port))
		if n, ok := p.TargetPort.(float64); ok {
			out = append(out, strconv.Itoa(int(n)))
		}
	}
	return out
}

// decide returns what to set up for a pod that has a proxy. outboundExtra are
// further outbound ports to ignore.
func decide(c *Config, p *Pod, ns *Namespace, outboundExtra []string) (install.Config, error) {
	mode, err := install.ParseMode(c.Linkerd.IptablesMode, "")
	if err != nil {
		return install.Config{}, err
	}
	l := c.Linkerd
	o := rules.Options{
		InboundProxyPort:        l.InboundProxyPort,
		OutboundProxyPort:       l.OutboundProxyPort,
		ProxyUID:                l.ProxyUID,
		ProxyGID:                l.ProxyGID,
		PortsToRedirect:         l.PortsToRedirect,
		InboundPortsToIgnore:    slices.Clone(l.InboundPortsToIgnore),
		OutboundPortsToIgnore:   slices.Clone(l.OutboundPortsToIgnore),
		SubnetsToIgnore:         slices.Clone(l.SubnetsToIgnore),
		OutboundSubnetsToIgnore: slices.Clone(l.OutboundSubnetsToIgnore),
		IPv6:                    l.IPv6,
	}
	// A pod's annotation outranks its namespace's.
	annotation := func(name string) string {
		if v := p.Metadata.Annotations[name]; v != "" {
			return v
		}
		return ns.Metadata.Annotations[name]
	}
	if v := annotation(names.AnnotationSkipOutboundPorts); v != "" {
		o.OutboundPortsToIgnore = strings.Split(v, ",")
	}
	if v := annotation(names.AnnotationSkipInboundPorts); v != "" {
		// The configured ones are the proxy's own ports, so they stay.
		o.InboundPortsToIgnore = append(o.InboundPortsToIgnore, strings.Split(v, ",")...)
	}
	if v := annotation(names.AnnotationSkipSubnets); v != "" {
		o.SubnetsToIgnore = strings.Split(v, ",")
	}
	if v := annotation(names.AnnotationSkipOutboundSubnets); v != "" {
		o.OutboundSubnetsToIgnore = strings.Split(v, ",")
	}
	for _, id := range []struct {
		name string
		to   *int
	}{{names.AnnotationProxyUID, &o.ProxyUID}, {names.AnnotationProxyGID, &o.ProxyGID}} {
		v := annotation(id.name)
		if v == "" {
			continue
		}
		if *id.to, err = strconv.Atoi(v); err != nil {
			return install.Config{}, fmt.Errorf("annotation %s: %q is not an integer", id.name, v)
		}
	}
	o.OutboundPortsToIgnore = append(o.OutboundPortsToIgnore, outboundExtra...)
	return install.Config{Rules: o, Mode: mode, Simulate: l.Simulate, Wait: l.UseWaitFlag}, nil
}
