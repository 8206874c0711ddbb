package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// Object is a Kubernetes object and the URL path that it is applied at.
type Object struct {
	Path string
	JSON []byte
}

// Corefile is CoreDNS's configuration. Without usable servers outside, names outside do not resolve.
func Corefile(servers []netip.Addr) string {
	forward := ""
	if len(servers) > 0 {
		forward = "    forward . /etc/resolv.conf {\n        max_concurrent 1000\n    }\n"
	}
	return `.:53 {
    errors
    health {
        lameduck 1s
    }
    ready
    kubernetes ` + ClusterDomain + ` in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
` + forward + `    cache 5
    loop
    reload
    loadbalance
}
`
}

// DNSNamespace and DNSDeployment name the workload that "up" waits for.
const (
	DNSNamespace  = "kube-system"
	DNSDeployment = "coredns"
)

// Manifests are the objects that every cluster starts with, in the order of applying them.
func Manifests(c plan.Cluster, host Host) []Object {
	type m = map[string]any
	labels := m{"k8s-app": "kube-dns"}
	meta := func(name string) m {
		return m{"name": name, "namespace": DNSNamespace, "labels": labels}
	}
	clusterMeta := func(name string) m { return m{"name": name, "labels": labels} }
	port := func(name string, number int, protocol string) m {
		return m{"name": name, "containerPort": number, "protocol": protocol}
	}
	probe := func(path string, port int) m {
		return m{"httpGet": m{"path": path, "port": port}, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 15}
	}
	readiness := probe("/ready", 8181)
	readiness["periodSeconds"], readiness["failureThreshold"] = 1, 3

	objects := []struct {
		path   string
		object m
	}{
		{"/api/v1/namespaces/kube-system/serviceaccounts/coredns", m{
			"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("coredns"),
		}},
		{"/apis/rbac.authorization.k8s.io/v1/clusterroles/system:coredns", m{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": clusterMeta("system:coredns"),
			"rules": []m{
				{"apiGroups": []string{""}, "resources": []string{"endpoints", "services", "pods", "namespaces"}, "verbs": []string{"list", "watch"}},
				{"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": []string{"list", "watch"}},
			},
		}},
		{"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:coredns", m{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": clusterMeta("system:coredns"),
			"roleRef":  m{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
			"subjects": []m{{"kind": "ServiceAccount", "name": "coredns", "namespace": DNSNamespace}},
		}},
		{"/api/v1/namespaces/kube-system/configmaps/coredns", m{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("coredns"),
			"data": m{"Corefile": Corefile(host.Nameservers)},
		}},
		{"/api/v1/namespaces/kube-system/services/kube-dns", m{
			"apiVersion": "v1", "kind": "Service", "metadata": meta("kube-dns"),
			"spec": m{
				"clusterIP": c.DNSIP().String(), "selector": labels,
				"ports": []m{
					{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
					{"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
				},
			},
		}},
		{"/apis/apps/v1/namespaces/kube-system/deployments/coredns", m{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(DNSDeployment),
			"spec": m{
				"replicas": 1,
				"selector": m{"matchLabels": labels},
				"strategy": m{"type": "RollingUpdate", "rollingUpdate": m{"maxUnavailable": 0, "maxSurge": 1}},
				"template": m{
					"metadata": m{"labels": labels},
					"spec": m{
						"serviceAccountName": "coredns",
						"priorityClassName":  "system-cluster-critical",
						"dnsPolicy":          "Default",
						"tolerations":        []m{{"operator": "Exists"}},
						"containers": []m{{
							"name": "coredns", "image": DNSImage, "imagePullPolicy": "Never",
							"args":      []string{"-conf", "/etc/coredns/Corefile"},
							"resources": m{"requests": m{"cpu": "10m", "memory": "40Mi"}},
							"ports": []m{
								port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"),
							},
							"livenessProbe":  probe("/health", 8080),
							"readinessProbe": readiness,
							"securityContext": m{
								"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
								"capabilities": m{"drop": []string{"ALL"}, "add": []string{"NET_BIND_SERVICE"}},
							},
							"volumeMounts": []m{{"name": "config", "mountPath": "/etc/coredns", "readOnly": true}},
						}},
						"volumes": []m{{"name": "config", "configMap": m{"name": "coredns"}}},
					},
				},
			},
		}},
	}
	out := make([]Object, 0, len(objects))
	for _, o := range objects {
		data, err := json.Marshal(o.object)
		if err != nil {
			panic(fmt.Sprintf("config: cannot encode %s: %v", o.path, err)) // a value of this file that JSON does not know
		}
		out = append(out, Object{Path: o.path, JSON: data})
	}
	return out
}

// Kind names an object in messages, such as "deployments/coredns".
func (o Object) Kind() string {
	parts := strings.Split(o.Path, "/")
	return strings.Join(parts[len(parts)-2:], "/")
}
