package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// node is a place in a JSON schema, with the keywords that these schemas use.
// They are of draft 7, which is what every version of Helm 3 and editors read.
// There are no references: draft 7 ignores what stands beside one.
type node struct {
	Schema string `json:"$schema,omitempty"`
	// Title says what the value has to be, so that "is not" can stand before it:
	// package internal/valueschema makes its sentences of it.
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Type has the one that is meant first. Every place takes null, by which a
	// user of Helm takes a value of the chart away.
	Type     []string `json:"type"`
	Enum     []any    `json:"enum,omitempty"`
	Examples []string `json:"examples,omitempty"`
	// Pattern is for texts alone, Minimum and Maximum for numbers alone.
	Pattern              string           `json:"pattern,omitempty"`
	Minimum              *float64         `json:"minimum,omitempty"`
	Maximum              *float64         `json:"maximum,omitempty"`
	Items                *node            `json:"items,omitempty"`
	Properties           map[string]*node `json:"properties,omitempty"`
	AdditionalProperties *node            `json:"additionalProperties,omitempty"`
}

// shape makes the schema of a value, without what is said of it.
type shape func() *node

func boolean() *node {
	return &node{Title: "true or false", Type: []string{"boolean", "null"}}
}

// text is any scalar: templates quote it, or write it where YAML reads a text.
func text() *node {
	return &node{Title: "a text", Type: []string{"string", "number", "boolean", "null"}}
}

// decimal is also taken as a text, which --set-string gives.
func decimal() *node {
	return &node{Title: "a number", Type: []string{"number", "string", "null"}, Pattern: `^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$`}
}

func integer() *node {
	return &node{Title: "a number", Type: []string{"integer", "string", "null"}, Pattern: `^[+-]?[0-9]+$`}
}

func list() *node { return &node{Title: "a list", Type: []string{"array", "null"}} }

// object is a map whose keys are the user's or those of a Kubernetes type.
func object() *node { return &node{Title: "a map of values", Type: []string{"object", "null"}} }

func number(value float64) *float64 { return &value }

// between are whole numbers from least to most, called what.
func between(least, most float64, what string) shape {
	return func() *node {
		n := integer()
		n.Title, n.Minimum, n.Maximum = what, number(least), number(most)
		return n
	}
}

func atLeast(least float64) shape {
	return func() *node {
		n := integer()
		n.Title, n.Minimum = fmt.Sprintf("a number, %v or more", least), number(least)
		return n
	}
}

// share is a part of the whole.
func share() *node {
	n := decimal()
	n.Title, n.Minimum, n.Maximum = "a number from 0 to 1", number(0), number(1)
	return n
}

// oneOf takes these texts alone; the last may be empty, which is not named.
func oneOf(values ...string) shape {
	return func() *node {
		n := &node{Title: "one of: " + strings.Join(slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" }), ", "), Type: []string{"string", "null"}}
		for _, v := range values {
			n.Enum = append(n.Enum, v)
		}
		n.Enum = append(n.Enum, nil)
		return n
	}
}

// level is a log level by the names that the controllers and the programs for
// redirection know, in both cases.
func level(also ...string) shape {
	names := []string{"panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"}
	return func() *node {
		var both []string
		for _, name := range names {
			both = append(both, name, strings.ToUpper(name))
		}
		n := oneOf(append(both, also...)...)()
		n.Title = "a log level: " + strings.Join(names, ", ")
		return n
	}
}

// like is a text for which these are examples. What is none of them has a
// meaning, too: most often none.
func like(examples ...string) shape {
	return func() *node {
		n := text()
		n.Examples = examples
		return n
	}
}

// matching is a text of a pattern, or an empty one.
func matching(pattern, what string) shape {
	return func() *node {
		n := text()
		n.Title, n.Pattern = what, `^(`+pattern+`)?$`
		return n
	}
}

// of is a list of one kind of elements.
func of(element shape) shape {
	return func() *node {
		n := list()
		n.Items = element()
		return n
	}
}

// with is a map with some keys that are known.
func with(properties map[string]shape) shape {
	return func() *node {
		n := object()
		n.Properties = map[string]*node{}
		for key, s := range properties {
			n.Properties[key] = s()
		}
		return n
	}
}

// labels is a map of texts, as Kubernetes wants labels, annotations and
// selectors: a number or true there is refused by the API server alone.
func labels() *node {
	n := object()
	n.AdditionalProperties = &node{Title: `a text (in "quotes" if it looks like a number or true)`, Type: []string{"string", "null"}}
	return n
}

// Durations, as the two kinds of programs read them. Zero needs no unit, and no
// quotes. A proxy's has a limit of digits, above 30 years, so that it fits.
var (
	proxyDuration = duration(`\s*(0+|[0-9]{1,12}ms|[0-9]{1,9}s|[0-9]{1,8}m|[0-9]{1,6}h|[0-9]{1,5}d)\s*`,
		"a duration (a whole number followed by ms, s, m, h or d)", true)
	goDuration       = duration(`[+]?(0|(`+goPart+`)+)`, "a duration such as 24h0m0s or 20s", true)
	positiveDuration = duration(`[+]?(`+goPart+`)*([0-9]*\.)?[0-9]*[1-9][0-9]*(\.[0-9]*)?(`+goUnit+`)(`+goPart+`)*`, "a duration such as 24h0m0s or 20s", false)
)

const (
	goUnit = `ns|us|µs|ms|s|m|h`
	goPart = `([0-9]+(\.[0-9]*)?|\.[0-9]+)(` + goUnit + `)`
)

func duration(pattern, what string, zero bool) shape {
	return func() *node {
		n := &node{Title: what, Type: []string{"string", "null"}, Pattern: `^(` + pattern + `)$`}
		if zero {
			n.Type = []string{"string", "integer", "null"}
			n.Minimum, n.Maximum = number(0), number(0)
		}
		return n
	}
}

// orEmpty takes an empty text, too.
func orEmpty(s shape) shape {
	return func() *node {
		n := s()
		n.Pattern = `^$|` + n.Pattern
		return n
	}
}

var (
	port = between(1, 65535, "a port, 1 to 65535")
	// ports: what the numbers are is left to those who read them.
	ports      = matching(`[0-9\s,-]*`, "a text of ports and ranges of ports, such as 25,8000-8010")
	networks   = matching(`[0-9a-fA-F.:/\s,]*`, "a text of networks, such as 10.0.0.0/8,192.168.0.0/16")
	network    = matching(`\s*[0-9a-fA-F.:]+(/[0-9]+)?\s*`, "a network such as 10.0.0.0/8")
	pullPolicy = oneOf("Always", "IfNotPresent", "Never", "")
	format     = oneOf("plain", "json", "")
	// quantity is a Kubernetes quantity, or a plain number.
	quantity = matching(`[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?`, "a quantity such as 100m or 64Mi")
	env      = of(object)
	args     = of(text)
	// quota is a number of pods or a part of them.
	quota = func() *node {
		return &node{Title: "a number or a percentage", Type: []string{"integer", "string", "null"}, Pattern: `^[0-9]+%?$`, Minimum: number(0)}
	}
	bounds    = with(map[string]shape{"limit": quantity, "request": quantity})
	resources = with(map[string]shape{"cpu": bounds, "memory": bounds, "ephemeral-storage": bounds})
	policy    = oneOf("all-authenticated", "all-unauthenticated", "cluster-authenticated", "cluster-unauthenticated", "deny", "audit")
)

// rule says of a value what its default does not tell. Of path only the end
// has to be there: "*.gid" is every value gid, and without a star the whole path.
type rule struct {
	path  string
	shape shape
	// description is of values that have no default, and with it no comment.
	description string
}

// known are the rules of each chart. A value without one has the kind of its
// default. What is given here beyond values.yaml is unset by default.
//
// Only what cannot work is refused: what programs would not start with, or the
// API server not take. Where a program goes on with something else there are
// examples, and what templates refuse in words of their own is left to them.
var known = map[string][]rule{
	"linkerd-crds": {
		{"enableHttpRoutes", boolean, "Install HTTPRoute and GRPCRoute, whatever installGatewayAPI says"},
		{"enableTlsRoutes", boolean, "Install TLSRoute, whatever installGatewayAPI says"},
		{"enableTcpRoutes", boolean, "Install TCPRoute, whatever installGatewayAPI says"},
		{"enableReferenceGrants", boolean, "Install ReferenceGrant, whatever installGatewayAPI says"},
	},
	"linkerd-control-plane": {
		{"*.pullPolicy", pullPolicy, ""},
		{"*.podAnnotations", labels, ""},
		{"*.resources", resources, ""},
		{"*.timeoutSeconds", atLeast(0), ""},
		{"*.initialDelaySeconds", atLeast(0), ""},
		{"*.periodSeconds", atLeast(0), ""},
		{"*.failureThreshold", atLeast(0), ""},
		{"*.clientQPS", decimal, ""},
		{"*.clientBurst", atLeast(0), ""},
		{"*.renewAt", share, ""},
		{"*.securityContext", object, ""},
		{"*.namespaceSelector", object, ""},
		{"*.objectSelector", object, ""},
		{"*.keepAliveInterval", orEmpty(proxyDuration), ""},
		{"*.keepAliveTimeout", orEmpty(proxyDuration), ""},

		{"clusterNetworks", networks, ""},
		{"imagePullPolicy", pullPolicy, ""},
		{"imagePullSecrets", of(object), ""},
		{"revisionHistoryLimit", atLeast(0), ""},
		{"controllerLogLevel", level(""), ""},
		{"controllerLogFormat", format, ""},
		{"deploymentStrategy", object, ""},
		{"controller.podDisruptionBudget.maxUnavailable", quota, ""},
		{"controllerReplicas", atLeast(0), ""},
		{"controllerUID", atLeast(0), ""},
		{"webhookFailurePolicy", oneOf("Ignore", "Fail", ""), ""},
		{"heartbeatSchedule", matching(`\s*(@.*|\S+(\s+\S+){4}\s*)`, "a schedule of five fields: minute, hour, day of the month, month, day of the week"), ""},
		{"nodeSelector", labels, ""},
		{"tolerations", of(object), ""},
		{"nodeAffinity", object, ""},
		{"podAnnotations", labels, ""},
		{"podLabels", labels, ""},
		{"commonLabels", labels, ""},
		{"configReaders", of(object), ""},
		{"highAvailability", boolean, "Read by `linkerd check`, which then looks at high-availability needs"},

		{"controllerResources", resources, "Resources that values-ha.yaml names once for several containers"},
		{"destinationResources", resources, "Resources of the destination container"},
		{"destinationProxyResources", resources, "Resources of the proxy of the destination pods"},
		{"identityResources", resources, "Resources of the identity container"},
		{"identityProxyResources", resources, "Resources of the proxy of the identity pods"},
		{"proxyInjectorResources", resources, "Resources of the injector container"},
		{"proxyInjectorProxyResources", resources, "Resources of the proxy of the injector pods"},
		{"spValidatorResources", resources, "Resources of the container that validates ServiceProfiles"},
		{"heartbeatResources", resources, "Resources of the heartbeat container"},

		{"identity.issuer.scheme", oneOf("linkerd.io/tls", "kubernetes.io/tls"), ""},
		{"identity.issuer.clockSkewAllowance", goDuration, ""},
		{"identity.issuer.issuanceLifetime", positiveDuration, ""},
		{"identity.peerNamespaces", args, ""},
		{"identity.rotation.issuerLifetime", positiveDuration, ""},
		{"identity.rotation.anchorLifetime", positiveDuration, ""},
		{"identity.rotation.margin", goDuration, ""},
		{"identity.rotation.interval", goDuration, ""},
		{"identity.additionalEnv", env, "Environment variables of the identity container"},
		{"identity.experimentalEnv", env, "The same, for what is being tried"},
		{"webhookCertificates.rotation.lifetime", positiveDuration, ""},
		{"webhookCertificates.rotation.margin", goDuration, ""},
		{"webhookCertificates.rotation.interval", goDuration, ""},

		{"policyController.logLevel", like("info", "linkerd=info,warn"), ""},
		{"policyController.probeNetworks", of(network), ""},
		{"policyController.additionalArgs", args, "Arguments of the policy container"},
		{"policyController.experimentalArgs", args, "The same, for what is being tried"},
		{"destinationController.meshedHttp2ClientProtobuf", object, ""},
		{"destinationController.additionalArgs", args, "Arguments of the destination container"},
		{"destinationController.experimentalArgs", args, "The same, for what is being tried"},
		{"destinationController.additionalEnv", env, "Environment variables of the destination container"},
		{"destinationController.experimentalEnv", env, "The same, for what is being tried"},
		{"heartbeat.additionalEnv", env, "Environment variables of the heartbeat"},
		{"heartbeat.experimentalEnv", env, "The same, for what is being tried"},
		{"proxyInjector.timeoutSeconds", between(1, 30, "a number of seconds, 1 to 30"), ""},
		{"proxyInjector.additionalEnv", env, "Environment variables of the injector container"},
		{"proxyInjector.experimentalEnv", env, "The same, for what is being tried"},

		{"proxy.outboundConnectTimeout", orEmpty(proxyDuration), ""},
		{"proxy.inboundConnectTimeout", orEmpty(proxyDuration), ""},
		{"proxy.outboundDiscoveryCacheUnusedTimeout", orEmpty(proxyDuration), ""},
		{"proxy.inboundDiscoveryCacheUnusedTimeout", orEmpty(proxyDuration), ""},
		{"proxy.shutdownGracePeriod", orEmpty(proxyDuration), ""},
		{"proxy.shutdownTCPGracePeriod", orEmpty(proxyDuration), "Time that connections of which the proxy only knows bytes get to finish at shutdown"},
		{"proxy.control.streams.initialTimeout", orEmpty(proxyDuration), ""},
		{"proxy.control.streams.idleTimeout", orEmpty(proxyDuration), ""},
		{"proxy.control.streams.lifetime", orEmpty(proxyDuration), ""},
		{"proxy.logFormat", like("plain", "json"), ""},
		{"proxy.logHTTPHeaders", like("off", "insecure"), ""},
		{"proxy.ports.admin", port, ""},
		{"proxy.ports.control", port, ""},
		{"proxy.ports.inbound", port, ""},
		{"proxy.ports.outbound", port, ""},
		{"proxy.cores", decimal, "Cores of the proxy; proxy.runtime.workers.minimum is the newer name"},
		{"proxy.runtime.workers.minimum", decimal, ""},
		{"proxy.runtime.workers.maximum", decimal, "Cores the proxy uses at most"},
		{"proxy.runtime.workers.maximumCPURatio", decimal, "Share of the node's cores the proxy uses at most"},
		{"proxy.uid", atLeast(0), ""},
		{"proxy.waitBeforeExitSeconds", atLeast(0), ""},
		{"proxy.requireIdentityOnInboundPorts", ports, ""},
		{"proxy.opaquePorts", ports, ""},
		{"proxy.defaultInboundPolicy", policy, ""},
		{"proxy.outboundTransportMode", like("transport-header", "transparent"), ""},
		{"proxy.tracing.sampleRatio", share, "Share of the requests without a trace that one is started for"},
		{"proxy.accessLog", like("apache", "apache-extended", "json"), ""},
		{"proxy.outboundAccessLog", like("apache", "apache-extended", "json"), "Access log format of requests that the pod sends; empty is off"},
		{"proxy.inboundForwardedFor", oneOf("append", "replace", ""), "How applications are told their clients' addresses in X-Forwarded-For"},
		{"proxy.inboundProxyProtocolPorts", ports, "Ports on which load balancers may tell clients' addresses by the PROXY protocol"},
		{"proxy.additionalEnv", env, "Environment variables of the proxy"},
		{"proxy.experimentalEnv", env, "The same, for what is being tried"},

		{"proxyInit.ignoreInboundPorts", ports, ""},
		{"proxyInit.ignoreOutboundPorts", ports, ""},
		{"proxyInit.kubeAPIServerPorts", ports, ""},
		{"proxyInit.iptablesMode", like("nft", "legacy"), ""},
		{"proxyInit.skipSubnets", networks, ""},
		{"proxyInit.skipOutboundSubnets", networks, ""},
		{"proxyInit.logLevel", level(""), ""},
		{"proxyInit.logFormat", format, ""},
		{"proxyInit.closeWaitTimeoutSecs", atLeast(0), ""},
		{"proxyInit.runAsUser", atLeast(0), ""},
		{"proxyInit.runAsGroup", atLeast(0), ""},
		{"proxyInit.saMountPath", object, "Mount of a ServiceAccount token in the init container: name, mountPath, readOnly"},
		{"proxyInit.capabilities", object, "Capabilities of the init container besides NET_ADMIN and NET_RAW: add, drop"},
		{"networkValidator.logLevel", level(), ""},
		{"networkValidator.logFormat", oneOf("plain", "json"), ""},
		{"networkValidator.timeout", proxyDuration, ""},

		{"podMonitor.labels", labels, ""},
		{"podMonitor.controller.namespaceSelector", text, ""},
	},
	"linkerd2-cni": {
		{"*.resources", resources, ""},
		{"*.pullPolicy", pullPolicy, ""},
		{"resources", resources, ""},
		{"inboundProxyPort", port, ""},
		{"outboundProxyPort", port, ""},
		{"proxyAdminPort", port, ""},
		{"proxyControlPort", port, ""},
		{"ignoreInboundPorts", ports, ""},
		{"ignoreOutboundPorts", ports, ""},
		{"portsToRedirect", ports, ""},
		{"logLevel", level(), ""},
		{"proxyUID", atLeast(0), ""},
		{"iptablesMode", like("nft", "legacy", "plain"), ""},
		{"podLabels", labels, ""},
		{"commonLabels", labels, ""},
		{"revisionHistoryLimit", atLeast(0), ""},
		{"updateStrategy", object, ""},
		{"tolerations", of(object), ""},
		{"nodeAffinity", object, ""},
		{"imagePullSecrets", of(object), ""},
		{"extraInitContainers", of(object), ""},
		{"repairController.logLevel", like("info", "debug"), ""},
		{"repairController.logFormat", format, ""},
	},
	"linkerd-smi": {
		{"*.pullPolicy", pullPolicy, ""},
		{"*.runAsUser", atLeast(0), ""},
		{"imagePullSecrets", of(object), ""},
		{"commonLabels", labels, ""},
		{"adaptor.replicas", atLeast(0), ""},
		{"adaptor.logLevel", level(""), ""},
		{"adaptor.logFormat", format, ""},
		{"adaptor.resources", with(map[string]shape{"limits": quantities, "requests": quantities}), ""},
		{"adaptor.affinity", object, ""},
		{"adaptor.nodeSelector", labels, ""},
		{"adaptor.tolerations", of(object), ""},
	},
}

// quantities is a map as Kubernetes has it below limits and requests.
func quantities() *node {
	n := object()
	n.AdditionalProperties = quantity()
	return n
}

// schemas returns the schema of each chart that has values of its own, by path
// from the folder of the charts, made of dir's values.yaml and the rules above.
func schemas(dir string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for chart, rules := range known {
		file := filepath.Join(dir, chart, "values.yaml")
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		root, err := schema(data, rules)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		text, err := json.MarshalIndent(root, "", " ")
		if err != nil {
			return nil, err
		}
		out[path.Join(chart, "values.schema.json")] = append(text, '\n')
	}
	return out, nil
}

// schema makes the schema of a chart from its values.yaml: types from the
// defaults, descriptions from the comments that begin with two dashes.
func schema(values []byte, rules []rule) (*node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return nil, err
	}
	used := map[string]bool{}
	root, err := describe(document.Content[0], "", rules, used)
	if err != nil {
		return nil, err
	}
	root.Schema = "http://json-schema.org/draft-07/schema#"
	for _, r := range rules {
		if used[r.path] {
			if r.description != "" {
				return nil, fmt.Errorf("rule %s: its description stands in values.yaml", r.path)
			}
			continue
		}
		if r.description == "" {
			return nil, fmt.Errorf("rule %s: there is no such value, and no description", r.path)
		}
		if err := root.add(r); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// add puts a value without default into the schema.
func (n *node) add(r rule) error {
	keys := strings.Split(r.path, ".")
	for _, key := range keys[:len(keys)-1] {
		if n = n.Properties[key]; n == nil {
			return fmt.Errorf("rule %s: there is no %s", r.path, key)
		}
	}
	added := r.shape()
	added.Description = r.description
	if n.Properties == nil {
		n.Properties = map[string]*node{}
	}
	n.Properties[keys[len(keys)-1]] = added
	return nil
}

// describe makes the schema of a value: by the rule for its path, else from its
// default, and then of what is below.
func describe(value *yaml.Node, at string, rules []rule, used map[string]bool) (*node, error) {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if r, ok := ruleFor(at, rules); ok {
		used[r.path] = true
		return r.shape(), nil
	}
	if value.Kind != yaml.MappingNode {
		kinds := map[string]shape{"!!bool": boolean, "!!int": integer, "!!float": decimal, "!!str": text, "!!seq": list}
		kind, ok := kinds[value.ShortTag()]
		if !ok {
			return nil, fmt.Errorf("value %s has no default, and no rule", at)
		}
		return kind(), nil
	}
	n := object()
	for i := 0; i < len(value.Content); i += 2 {
		key := value.Content[i]
		below, err := describe(value.Content[i+1], strings.TrimPrefix(at+"."+key.Value, "."), rules, used)
		if err != nil {
			return nil, err
		}
		below.Description = comment(key.HeadComment)
		if n.Properties == nil {
			n.Properties = map[string]*node{}
		}
		n.Properties[key.Value] = below
	}
	return n, nil
}

// ruleFor prefers the rule for a path to one for all that end alike.
func ruleFor(at string, rules []rule) (rule, bool) {
	for _, r := range rules {
		if r.path == at {
			return r, true
		}
	}
	for _, r := range rules {
		if end, ok := strings.CutPrefix(r.path, "*"); ok && strings.HasSuffix(at, end) {
			return r, true
		}
	}
	return rule{}, false
}

// comment is the part of a comment that begins with two dashes, as one line.
func comment(head string) string {
	i := strings.LastIndex(head, "# -- ")
	if i < 0 {
		return ""
	}
	var words []string
	for _, line := range strings.Split(head[i+len("# -- "):], "\n") {
		if line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")); line == "" {
			break
		}
		words = append(words, line)
	}
	return strings.Join(words, " ")
}
