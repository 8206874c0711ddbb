package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/linkerd-go/linkerd-go/devcluster/certs"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// containerdConfig keeps everything of this containerd away from one that may already run on the machine.
func containerdConfig(c plan.Cluster, host Host) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`version = 2`)
	p(`root = %q`, c.State("containerd", "root"))
	p(`state = %q`, c.Run("containerd"))
	p(`disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]`)
	p(``)
	p(`[grpc]`)
	p(`  address = %q`, c.ContainerdSocket())
	p(``)
	p(`[plugins."io.containerd.internal.v1.opt"]`)
	p(`  path = %q`, c.State("containerd", "opt"))
	p(``)
	p(`[plugins."io.containerd.grpc.v1.cri"]`)
	p(`  sandbox_image = %q`, PauseImage)
	p(`  stream_server_address = "127.0.0.1"`)
	p(`  stream_server_port = "0"`)
	p(`  # A machine without CAP_SYS_RESOURCE may not lower a process's OOM score; runc fails if it is asked to.`)
	p(`  restrict_oom_score_adj = true`)
	p(`  # Pods' network namespaces are mounted below "state", where "down" finds them.`)
	p(`  netns_mounts_under_state_dir = true`)
	p(`  tolerate_missing_hugetlb_controller = true`)
	p(`  enable_unprivileged_ports = true`)
	p(`  enable_unprivileged_icmp = true`)
	p(``)
	p(`  [plugins."io.containerd.grpc.v1.cri".containerd]`)
	p(`    snapshotter = %q`, host.Snapshotter)
	p(`    default_runtime_name = "runc"`)
	p(`    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]`)
	p(`      runtime_type = "io.containerd.runc.v2"`)
	p(`      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]`)
	p(`        Root = %q`, c.Run("runc"))
	p(`        SystemdCgroup = false`)
	p(``)
	p(`  [plugins."io.containerd.grpc.v1.cri".cni]`)
	p(`    bin_dir = %q`, host.CNIBin)
	p(`    conf_dir = %q`, c.State("config", "cni"))
	p(`    max_conf_num = 1`)
	return b.Bytes()
}

// cniConfig attaches pods to the bridge that is the node's address. Addresses are not masqueraded here: the
// host routes pod addresses, so that pods of two clusters see each other's real ones, and translates only
// what leaves the machine.
func cniConfig(c plan.Cluster, host Host) []byte {
	return mustJSON(map[string]any{
		"cniVersion": "0.4.0",
		"name":       c.CNINetwork(),
		"plugins": []any{
			map[string]any{
				"type":        "bridge",
				"bridge":      BridgeName,
				"isGateway":   true,
				"ipMasq":      false,
				"hairpinMode": true,
				"mtu":         host.MTU,
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": c.State("cni", "ipam"),
					"ranges": []any{[]any{map[string]any{
						"subnet":     c.PodSubnet().String(),
						"rangeStart": c.PodRangeStart().String(),
						"gateway":    c.NodeIP().String(),
					}}},
					"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
				},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		},
	})
}

// BridgeName is the bridge inside the cluster's network namespace.
const BridgeName = "cni0"

func kubeletConfig(c plan.Cluster, host Host) []byte {
	return mustJSON(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true, "cacheTTL": "10s"},
			"x509":      map[string]any{"clientCAFile": c.State("pki", certs.CA+".crt")},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"address":                  "0.0.0.0",
		"healthzBindAddress":       "127.0.0.1",
		"healthzPort":              kubeletHealthPort,
		"tlsCertFile":              c.State("pki", certs.Kubelet+".crt"),
		"tlsPrivateKeyFile":        c.State("pki", certs.Kubelet+".key"),
		"clusterDomain":            ClusterDomain,
		"clusterDNS":               []string{c.DNSIP().String()},
		"resolvConf":               c.State("config", "resolv.conf"),
		"containerRuntimeEndpoint": "unix://" + c.ContainerdSocket(),
		"podLogsDir":               c.State("pod-logs"),
		"volumePluginDir":          c.State("kubelet", "volume-plugins"),
		"staticPodPath":            "",
		"maxPods":                  MaxPods,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               c.PodsCgroup(),
		// Both are for machines that are not set up for Kubernetes: old cgroups, and swap.
		"failCgroupV1":           false,
		"failSwapOn":             false,
		"enforceNodeAllocatable": []string{},
		// Disk usage is none of a development cluster's business: nothing is evicted, no image is removed.
		"localStorageCapacityIsolation": false,
		"evictionHard":                  map[string]any{"memory.available": "50Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
		"imageGCHighThresholdPercent":   100,
		"imageGCLowThresholdPercent":    99,
		"volumeStatsAggPeriod":          "-1s",
		// Snappy under test: no throttling, no waiting for one image before the next.
		"serializeImagePulls":       false,
		"kubeAPIQPS":                100,
		"kubeAPIBurst":              200,
		"eventRecordQPS":            100,
		"eventBurst":                200,
		"nodeStatusUpdateFrequency": "10s",
		"nodeStatusReportFrequency": "1m",
		// How soon files of ConfigMaps and Secrets follow them: tests wait for that.
		"syncFrequency": "10s",
		// A process that wants to be throttled by the kernel's own limits can be: the mesh's init container
		// sets net.* values.
		"allowedUnsafeSysctls":  []string{"net.*"},
		"containerLogMaxSize":   "20Mi",
		"protectKernelDefaults": false,
	})
}

// kubeProxyConfig leaves the connection tracker's limits alone, because they can be set for the whole machine
// only, and listens for NodePorts on the node's address.
func kubeProxyConfig(c plan.Cluster) []byte {
	return mustJSON(map[string]any{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"mode":               "nftables",
		"hostnameOverride":   c.NodeName(),
		"bindAddress":        c.NodeIP().String(),
		"clusterCIDR":        c.PodSubnet().String(),
		"detectLocalMode":    "ClusterCIDR",
		"healthzBindAddress": fmt.Sprintf("127.0.0.1:%d", kubeProxyHealthPort),
		"metricsBindAddress": "127.0.0.1:10249",
		"clientConnection":   map[string]any{"kubeconfig": c.State("config", "kube-proxy.kubeconfig"), "qps": 50, "burst": 100},
		"nftables":           map[string]any{"syncPeriod": "1h", "minSyncPeriod": "100ms"},
		"conntrack": map[string]any{
			"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
		},
	})
}

// schedulerConfig tries pods that found no place again sooner than the usual ten seconds: a cluster under
// test is small, and its tests wait for pods.
func schedulerConfig(c plan.Cluster) []byte {
	return mustJSON(map[string]any{
		"apiVersion":               "kubescheduler.config.k8s.io/v1",
		"kind":                     "KubeSchedulerConfiguration",
		"podInitialBackoffSeconds": 1,
		"podMaxBackoffSeconds":     2,
		// Nobody competes for the lease, and writing it every two seconds costs.
		"leaderElection":   map[string]any{"leaderElect": false},
		"enableProfiling":  false,
		"clientConnection": map[string]any{"kubeconfig": c.State("config", "scheduler.kubeconfig"), "qps": 100, "burst": 200},
	})
}

// resolvConf is what pods with dnsPolicy Default get, CoreDNS among them.
func resolvConf(servers []netip.Addr) []byte {
	var b bytes.Buffer
	for _, server := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	return b.Bytes()
}

// Nameservers reads the servers out of a resolv.conf that pods can use too: not the ones on the machine's
// own loopback, which is not the pods'.
func Nameservers(resolv string) []netip.Addr {
	var servers []netip.Addr
	for line := range strings.Lines(resolv) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		address, err := netip.ParseAddr(fields[1])
		// The pods have no IPv6.
		if err == nil && address.Is4() && !address.IsLoopback() && !address.IsUnspecified() {
			servers = append(servers, address)
		}
	}
	return servers
}

// kubeconfigs maps a kubeconfig's file to the client certificate in it.
func kubeconfigs(c plan.Cluster) map[string]string {
	return map[string]string{
		c.Kubeconfig(): certs.Admin,
		c.State("config", "controller-manager.kubeconfig"): certs.ControllerManager,
		c.State("config", "scheduler.kubeconfig"):          certs.Scheduler,
		c.State("config", "kube-proxy.kubeconfig"):         certs.Proxy,
		c.State("config", "kubelet.kubeconfig"):            certs.Node,
	}
}

// Kubeconfigs renders the kubeconfigs of all components and the administrator from the certificates on disk.
// They contain the keys, so that a copy of one works elsewhere.
func Kubeconfigs(c plan.Cluster) ([]File, error) {
	read := func(name string) (string, error) {
		data, err := os.ReadFile(c.State("pki", name))
		return base64.StdEncoding.EncodeToString(data), err
	}
	ca, err := read(certs.CA + ".crt")
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	var files []File
	for path, name := range kubeconfigs(c) {
		crt, err := read(name + ".crt")
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		key, err := read(name + ".key")
		if err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		named := func(what string, value any) []any {
			return []any{map[string]any{"name": c.Name, what: value}}
		}
		files = append(files, File{Path: path, Secret: true, Data: mustJSON(map[string]any{
			"apiVersion":      "v1",
			"kind":            "Config",
			"current-context": c.Name,
			"clusters":        named("cluster", map[string]any{"server": c.APIServer(), "certificate-authority-data": ca}),
			"users":           named("user", map[string]any{"client-certificate-data": crt, "client-key-data": key}),
			"contexts":        named("context", map[string]any{"cluster": c.Name, "user": c.Name}),
		})})
	}
	return files, nil
}

// mustJSON renders maps of plain values. JSON is YAML, so every component reads it.
func mustJSON(v any) []byte {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("config: cannot encode: %v", err)) // a value of this file that JSON does not know
	}
	return append(data, '\n')
}
