package charts

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/getter"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// helmInstall does what `helm install --dry-run` does with a packed chart.
func helmInstall(t *testing.T, archive string, values map[string]any) error {
	t.Helper()
	loaded, err := loader.LoadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	install := action.NewInstall(&action.Configuration{
		Releases:     storage.Init(driver.NewMemory()),
		KubeClient:   &kubefake.PrintingKubeClient{Out: io.Discard},
		Capabilities: chartutil.DefaultCapabilities,
		Log:          func(string, ...any) {},
	})
	install.ReleaseName, install.Namespace = "test", "linkerd"
	install.DryRun, install.ClientOnly = true, true
	install.KubeVersion = &chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}
	_, err = install.Run(loaded, values)
	return err
}

// archives packs the charts, by name.
func archives(t *testing.T) map[string]string {
	t.Helper()
	dir, out := t.TempDir(), map[string]string{}
	for _, name := range Packaged {
		path, err := mustLoad(t, name).Package("2026.3.1", "edge-26.3.1", dir)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = path
	}
	return out
}

// production is a file of values as documents for users have it, with keys that
// no chart of ours reads.
const production = `
controllerReplicas: 3
enablePodAntiAffinity: true
proxy:
  resources: {cpu: {request: 100m, limit: 1000m}, memory: {request: 64Mi, limit: 256Mi}}
  logLevel: warn,linkerd=info
  waitBeforeExitSeconds: 0
controllerResources: {cpu: {request: 100m, limit: 1000m}, memory: {request: 128Mi, limit: 512Mi}}
identity: {issuer: {issuanceLifetime: 24h0m0s, clockSkewAllowance: 20s}}
webhookFailurePolicy: Fail
podDisruptionBudget: {enabled: true, minAvailable: 1}
nodeSelector: {kubernetes.io/os: linux}
tolerations: []
enablePodDebugContainer: false
`

// older has keys that former releases had (CLI chapter, section 18), in places
// where a chart of today has something or nothing.
const older = `
installNamespace: false
namespace: linkerd
omitWebhookSideEffects: true
controlPlaneTracing: true
grafana: {enabled: false}
identity: {issuer: {crtExpiry: "2030-01-01T00:00:00Z", crtExpiryAnnotation: x}}
policyController: {image: {name: a, pullPolicy: Always, version: v1}, defaultAllowPolicy: deny}
proxy: {cores: 0, trace: {collectorSvcAddr: "", collectorSvcAccount: default}}
proxyInit: {image: {name: a, version: v2}, resources: {cpu: {limit: 100m, request: 100m}}, saMountPath: {name: a, mountPath: /b, readOnly: true}}
`

// schemaCases are values that somebody gives, and the path of the one that is
// refused, empty if all are taken.
var schemaCases = []struct{ name, chart, values, refused string }{
	{"nothing", ControlPlane, ``, ""},
	{"production", ControlPlane, production, ""},
	{"older", ControlPlane, older, ""},
	{"null-takes-away", ControlPlane, `{webhookCertificates: null, versionCheckURL: null, heartbeatSchedule: null, imagePullSecrets: null, proxy: {image: {version: null}, opaquePorts: null}}`, ""},
	{"global-and-library", ControlPlane, `{global: {a: {b: 1}}, partials: {global: {}, some: thing}}`, ""},
	{"unknown-keys", ControlPlane, `{someThing: [1, {a: b}], proxy: {some: {thing: 1}, logLvl: x}}`, ""},
	{"numbers-for-texts", ControlPlane, `{linkerdVersion: 2.14, proxy: {opaquePorts: 3306, accessLog: false, logHTTPHeaders: off}, proxyInit: {ignoreInboundPorts: 443}}`, ""},
	{"texts-for-numbers", ControlPlane, `{controllerReplicas: "3", proxy: {ports: {admin: "4192"}, gid: "-1", runtime: {workers: {maximumCPURatio: "0.5"}}}, identity: {kubeAPI: {clientQPS: "12.5"}}}`, ""},
	{"quantities", ControlPlane, `proxy: {resources: {cpu: {request: 0.1, limit: 1}, memory: {request: 1.5Gi, limit: 128974848}, ephemeral-storage: {request: 1e3, limit: 1e9}}}`, ""},
	{"durations", ControlPlane, `{identity: {issuer: {issuanceLifetime: 1.5h, clockSkewAllowance: 0}, rotation: {margin: 0s}}, proxy: {shutdownGracePeriod: 2d, shutdownTCPGracePeriod: "", inboundConnectTimeout: 0}}`, ""},
	{"schedules", ControlPlane, `heartbeatSchedule: "*/5  0 1-7 * MON"`, ""},
	{"schedule-by-name", ControlPlane, `heartbeatSchedule: "@daily"`, ""},
	{"budget-by-share", ControlPlane, `controller: {podDisruptionBudget: {maxUnavailable: 50%}}`, ""},
	{"levels", ControlPlane, `{controllerLogLevel: WARN, policyController: {logLevel: "info,linkerd=debug"}}`, ""},
	{"kubernetes-types", ControlPlane, `{tolerations: [{key: a, operator: Exists, tolerationSeconds: 3}], nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}, deploymentStrategy: {type: Recreate}, proxy: {securityContext: {runAsUser: 1, capabilities: {drop: [ALL]}}, additionalEnv: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}, commonLabels: {a: "1"}}`, ""},
	{"any-setting-of-the-proxy", ControlPlane, `proxy: {inbound: {server: {http2: {maxConcurrentStreams: 7}, x: true}}, outbound: {a: {b: c}}}`, ""},
	{"old-ports-and-ranges", ControlPlane, `proxyInit: {ignoreOutboundPorts: "25, 8000-8010,", skipSubnets: "10.0.0.0/8, fd00::/8"}`, ""},
	{"crds", CRDs, `{installGatewayAPI: true, enableTcpRoutes: false, enableTlsRoutes: null, global: {}}`, ""},
	{"cni", CNI, `{inboundProxyPort: "4143", proxyGID: -1, portsToRedirect: 80, tolerations: null, updateStrategy: {type: OnDelete}, cniPluginImage: x, repairController: {enabled: true, logLevel: "info,linkerd=debug"}}`, ""},
	{"smi", SMI, `adaptor: {resources: {limits: {cpu: 1, memory: 20Mi, example.com/card: "1"}}, nodeSelector: {a: b}, image: {tag: v1}}`, ""},
	{"single", Single, `{installNamespace: false, installGatewayAPI: true, proxy: {cores: 1}}`, ""},

	{"text-for-number", ControlPlane, `controllerReplicas: many`, "controllerReplicas"},
	{"fewer-than-none", ControlPlane, `controllerReplicas: -1`, "controllerReplicas"},
	{"text-for-boolean", ControlPlane, `proxy: {await: "false"}`, "proxy.await"},
	{"text-for-list", ControlPlane, `imagePullSecrets: a`, "imagePullSecrets"},
	{"element", ControlPlane, `imagePullSecrets: [{name: a}, b]`, "imagePullSecrets.1"},
	{"list-for-text", ControlPlane, `proxyInit: {ignoreInboundPorts: [80, 443]}`, "proxyInit.ignoreInboundPorts"},
	{"number-for-map", ControlPlane, `proxy: {ports: 4143}`, "proxy.ports"},
	{"port-zero", ControlPlane, `proxy: {ports: {inbound: 0}}`, "proxy.ports.inbound"},
	{"port-too-high", ControlPlane, `proxy: {ports: {admin: 99999}}`, "proxy.ports.admin"},
	{"failure-policy", ControlPlane, `webhookFailurePolicy: Sometimes`, "webhookFailurePolicy"},
	{"pull-policy", ControlPlane, `proxy: {image: {pullPolicy: always}}`, "proxy.image.pullPolicy"},
	{"inbound-policy", ControlPlane, `proxy: {defaultInboundPolicy: open}`, "proxy.defaultInboundPolicy"},
	{"log-level", ControlPlane, `controllerLogLevel: loud`, "controllerLogLevel"},
	{"log-format", ControlPlane, `controllerLogFormat: xml`, "controllerLogFormat"},
	{"schedule", ControlPlane, `heartbeatSchedule: daily`, "heartbeatSchedule"},
	{"lifetime", ControlPlane, `identity: {issuer: {issuanceLifetime: 1day}}`, "identity.issuer.issuanceLifetime"},
	{"no-lifetime", ControlPlane, `identity: {issuer: {issuanceLifetime: 0h0.0s}}`, "identity.issuer.issuanceLifetime"},
	{"skew", ControlPlane, `identity: {issuer: {clockSkewAllowance: -20s}}`, "identity.issuer.clockSkewAllowance"},
	{"two-units", ControlPlane, `proxy: {shutdownGracePeriod: 1m30s}`, "proxy.shutdownGracePeriod"},
	{"no-unit", ControlPlane, `proxy: {outboundConnectTimeout: 5}`, "proxy.outboundConnectTimeout"},
	{"too-long", ControlPlane, `proxy: {control: {streams: {lifetime: 9999999999999s}}}`, "proxy.control.streams.lifetime"},
	{"quantity", ControlPlane, `proxy: {resources: {cpu: {request: lots}}}`, "proxy.resources.cpu.request"},
	{"quantity-of-others", ControlPlane, `destinationResources: {memory: {limit: 64 Mi}}`, "destinationResources.memory.limit"},
	{"label", ControlPlane, `nodeSelector: {fast: true}`, "nodeSelector.fast"},
	{"networks", ControlPlane, `clusterNetworks: all of them`, "clusterNetworks"},
	{"probe-networks", ControlPlane, `policyController: {probeNetworks: [10.0.0.0/8, nodes]}`, "policyController.probeNetworks.1"},
	{"share", ControlPlane, `proxy: {tracing: {sampleRatio: 5}}`, "proxy.tracing.sampleRatio"},
	{"webhook-timeout", ControlPlane, `proxyInjector: {timeoutSeconds: 60}`, "proxyInjector.timeoutSeconds"},
	{"scheme", ControlPlane, `identity: {issuer: {scheme: tls}}`, "identity.issuer.scheme"},
	{"gateway-api", CRDs, `installGatewayAPI: "no"`, "installGatewayAPI"},
	{"cni-port", CNI, `proxyAdminPort: http`, "proxyAdminPort"},
	{"cni-level", CNI, `logLevel: loud`, "logLevel"},
	{"smi-quantity", SMI, `adaptor: {resources: {limits: {cpu: lots}}}`, "adaptor.resources.limits.cpu"},
	{"single-control-plane", Single, `controllerReplicas: many`, "controllerReplicas"},
	{"single-crds", Single, `enableTcpRoutes: many`, "enableTcpRoutes"},
}

// TestValues gives values to the packed charts as `helm install` does: what can
// work is taken, keys that no template reads, too, and what cannot is refused
// with its name. The CLI says the same in words.
func TestValues(t *testing.T) {
	packed := archives(t)
	for _, c := range schemaCases {
		t.Run(c.name, func(t *testing.T) {
			given := func() map[string]any {
				values := map[string]any{}
				if c.chart == ControlPlane || c.chart == Single {
					values = parse(t, certificates)
				}
				return valuetree.Merge(values, parse(t, c.values))
			}
			err := helmInstall(t, packed[c.chart], given())
			_, ours := mustLoad(t, c.chart).Render(Release{Name: "test", Namespace: "linkerd"}, given())
			if c.refused == "" {
				if err != nil {
					t.Errorf("helm: %v", err)
				}
				if ours != nil {
					t.Errorf("render: %v", ours)
				}
				return
			}
			if place := "/" + strings.ReplaceAll(c.refused, ".", "/") + "'"; err == nil || !strings.Contains(err.Error(), place) {
				t.Errorf("helm says %v, want it to name %s", err, place)
			}
			if ours == nil || !strings.HasPrefix(ours.Error(), "value "+c.refused+": ") || strings.Contains(ours.Error(), "\n") {
				t.Errorf("render says %v, want it to name %s alone", ours, c.refused)
			}
		})
	}
}

// TestHelmLint does what `helm lint` does with each chart.
func TestHelmLint(t *testing.T) {
	for name, archive := range archives(t) {
		values := map[string]any{}
		if name == ControlPlane || name == Single {
			values = parse(t, certificates)
		}
		lint := action.NewLint()
		lint.KubeVersion = &chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}
		for _, message := range lint.Run([]string{archive}, values).Messages {
			if message.Severity == support.ErrorSev {
				t.Errorf("%s: %v", name, message)
			}
		}
		if name != ControlPlane {
			continue
		}
		values["controllerReplicas"] = "many"
		if result := lint.Run([]string{archive}, values); !slices.ContainsFunc(result.Errors, func(err error) bool {
			return strings.Contains(err.Error(), "/controllerReplicas'")
		}) {
			t.Errorf("%s with many replicas: %v", name, result.Errors)
		}
	}
}

// TestSchemaKnowsEveryValue: each value of a chart, of its values-ha.yaml, too,
// has a place in the schema that says what it has to be.
func TestSchemaKnowsEveryValue(t *testing.T) {
	for _, name := range Packaged {
		chart := mustLoad(t, name)
		var schema map[string]any
		if err := json.Unmarshal(chart.loaded.Schema, &schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defaults, err := chart.Defaults()
		if err != nil {
			t.Fatal(err)
		}
		ha, err := chart.HighAvailability()
		if err != nil {
			t.Fatal(err)
		}
		placed(t, name, schema, valuetree.Merge(defaults, ha))
	}
}

func placed(t *testing.T, at string, schema, values map[string]any) {
	properties, _ := schema["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if key == partials || key == "global" {
			continue
		}
		place, ok := properties[key].(map[string]any)
		if !ok {
			t.Errorf("%s.%s is not in the schema", at, key)
			continue
		}
		if place["title"] == nil {
			t.Errorf("%s.%s: the schema does not say what it is", at, key)
		}
		below, isMap := values[key].(map[string]any)
		if isMap && place["properties"] != nil {
			placed(t, at+"."+key, place, below)
		}
	}
}

// TestHelmFlags gives values as Helm's flags do, of which --set guesses a type
// and --set-string makes texts.
func TestHelmFlags(t *testing.T) {
	options := values.Options{
		Values:       []string{"controllerReplicas=3", "proxy.ports.admin=4192", "proxy.logFormat=json", "tolerations[0].operator=Exists", "heartbeatSchedule=null"},
		StringValues: []string{"proxy.uid=2103", "nodeSelector.fast=true", "linkerdVersion=26.10"},
		JSONValues:   []string{`proxy.resources.cpu={"request":1}`},
	}
	given, err := options.MergeValues(getter.Providers{})
	if err != nil {
		t.Fatal(err)
	}
	if err := helmInstall(t, archives(t)[ControlPlane], valuetree.Merge(parse(t, certificates), given)); err != nil {
		t.Error(err)
	}
}
