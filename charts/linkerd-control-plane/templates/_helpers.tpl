{{/* component-labels marks objects of one component; takes root and component. */}}
{{- define "control-plane.component-labels" -}}
linkerd.io/control-plane-component: {{ .component }}
linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
{{- with .root.Values.commonLabels }}
{{ toYaml . | trim }}
{{- end }}
{{- end }}

{{/* workload-labels marks workloads besides; takes root and component. */}}
{{- define "control-plane.workload-labels" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/part-of: Linkerd
app.kubernetes.io/version: {{ .root.Values.linkerdVersion }}
{{ include "control-plane.component-labels" . }}
{{- end }}

{{/* security-context of every controller container. */}}
{{- define "control-plane.security-context" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop:
    - ALL
  readOnlyRootFilesystem: true
  {{- if ge (int64 .Values.controllerGID) 0 }}
  runAsGroup: {{ int64 .Values.controllerGID }}
  {{- end }}
  runAsNonRoot: true
  runAsUser: {{ int64 .Values.controllerUID }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* rotation is not empty if the credentials are the control plane's own to replace. */}}
{{- define "control-plane.rotation" -}}
{{- if and (.Values.identity.rotation | default dict).enabled (not .Values.identity.externalCA) (eq .Values.identity.issuer.scheme "linkerd.io/tls") -}}
true
{{- end }}
{{- end }}

{{/*
cluster-name of an object without namespace, that more than one control plane in
a cluster has; takes root and name. In the usual namespace it is the name that is
known.
*/}}
{{- define "control-plane.cluster-name" -}}
{{- if eq .root.Release.Namespace "linkerd" -}}
linkerd-{{ .name }}
{{- else -}}
linkerd-{{ .root.Release.Namespace }}-{{ .name }}
{{- end }}
{{- end }}

{{/*
webhook.configuration is the name of a webhook's configuration; takes root and
service.
*/}}
{{- define "linkerd.webhook.configuration" -}}
{{ .service }}-webhook-config
{{- if and .root.Values.webhookConfigurationPerNamespace (ne .root.Release.Namespace "linkerd") -}}
-{{ .root.Release.Namespace }}
{{- end }}
{{- end }}

{{- define "control-plane.image" -}}
image: {{ .Values.controllerImage }}:{{ .Values.controllerImageVersion | default .Values.linkerdVersion }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
{{- end }}

{{/* env joins additionalEnv and experimentalEnv of one component's values. */}}
{{- define "control-plane.env" -}}
{{- with .additionalEnv }}
{{ toYaml . | trim }}
{{- end }}
{{- with .experimentalEnv }}
{{ toYaml . | trim }}
{{- end }}
{{- end }}

{{/*
probes of a controller container. Takes port (number or name), live (path) and
values with livenessProbe and readinessProbe. Seven failures: the container
must not be taken out of service by a short stall of the API server.
*/}}
{{- define "control-plane.probes" -}}
livenessProbe:
  httpGet:
    path: {{ .live }}
    port: {{ .port }}
  initialDelaySeconds: 10
  timeoutSeconds: {{ int64 .values.livenessProbe.timeoutSeconds }}
readinessProbe:
  failureThreshold: 7
  httpGet:
    path: /ready
    port: {{ .port }}
  timeoutSeconds: {{ int64 .values.readinessProbe.timeoutSeconds }}
{{- end }}

{{/*
proxy-values prepares, in place, a copy of the values for the sidecar of one
control-plane pod. Takes values (the copy), component, ports, and resources
(the component's <component>ProxyResources, may be nil).

The control plane's sidecars differ from users': they accept unauthenticated
clients, since kubelets and the API server have no mesh identity; they read
trust anchors from the ConfigMap, which an operator may rotate; and they leave
traffic to the API server alone, which must work before the mesh does.
*/}}
{{- define "control-plane.proxy-values" -}}
{{- $proxy := .values.proxy }}
{{- $_ := set $proxy "workloadKind" "deployment" }}
{{- $_ := set $proxy "component" .component }}
{{- $_ := set $proxy "podInboundPorts" .ports }}
{{- $_ := set $proxy "waitBeforeExitSeconds" 0 }}
{{- $_ := set $proxy "defaultInboundPolicy" "all-unauthenticated" }}
{{- $_ := set $proxy "capabilities" (dict "drop" (list "ALL")) }}
{{- $_ := set $proxy "outboundDiscoveryCacheUnusedTimeout" "5s" }}
{{- $_ := set $proxy "inboundDiscoveryCacheUnusedTimeout" "90s" }}
{{- $_ := set $proxy "loadTrustBundleFromConfigMap" true }}
{{- $_ := set .values.proxyInit "ignoreOutboundPorts" .values.proxyInit.kubeAPIServerPorts }}
{{- if not .values.identity.serviceAccountTokenProjection }}
{{- /* Automatic mounting is off, so that the token which takes the place of the projected one would not be there. */}}
{{- $_ := set $proxy "saMountPath" (include "partials.volumeMounts.manual-mount-service-account-token" . | fromYaml) }}
{{- end }}
{{- with .resources }}
{{- $_ := set $proxy "resources" . }}
{{- if .cores }}
{{- $_ := set $proxy "cores" .cores }}
{{- end }}
{{- end }}
{{- end }}

{{/* init-container that sets up, or checks, the redirection. Takes the proxy context. */}}
{{- define "control-plane.init-container" -}}
{{- if .Values.cniEnabled -}}
{{ include "partials.network-validator" . }}
{{- else -}}
{{ include "partials.proxy-init" . }}
{{- end }}
{{- end }}

{{/* proxy-volumes of a control-plane pod. */}}
{{- define "control-plane.proxy-volumes" -}}
- {{ include "partials.volumes.manual-mount-service-account-token" . | indent 2 | trim }}
{{- if not .Values.cniEnabled }}
- {{ include "partials.proxy-init.volumes.xtables" . | indent 2 | trim }}
{{- end }}
{{- if .Values.identity.serviceAccountTokenProjection }}
- {{ include "partials.proxy.volumes.service-account-token" . | indent 2 | trim }}
{{- end }}
{{- if .Values.proxy.tracing.enabled }}
- {{ include "partials.proxy.volumes.podinfo" . | indent 2 | trim }}
{{- end }}
- {{ include "partials.proxy.volumes.identity" . | indent 2 | trim }}
{{- end }}

{{/*
pod-scheduling: fields of a pod spec that every workload shares. Takes the root.
*/}}
{{- define "control-plane.pod-scheduling" -}}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ quote . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- if .Values.nodeSelector }}
{{ include "linkerd.node-selector" . }}
{{- end }}
{{- if .Values.tolerations }}
{{ include "linkerd.tolerations" . }}
{{- end }}
{{- end }}

{{/*
managed-webhooks are those whose serving certificates the control plane keeps,
separated by commas: not those that the user brings, or cert-manager. Takes the
root.
*/}}
{{- define "control-plane.managed-webhooks" -}}
{{- $managed := list }}
{{- /* Values of an earlier release, which `helm upgrade --reuse-values` takes, do not know of it. */}}
{{- if ((.Values.webhookCertificates | default dict).rotation | default dict).enabled }}
{{- range $name, $key := dict "policy-validator" "policyValidator" "proxy-injector" "proxyInjector" "sp-validator" "profileValidator" }}
{{- $webhook := index $.Values $key }}
{{- if not (or $webhook.externalSecret $webhook.caBundle (and $webhook.crtPEM $webhook.keyPEM)) }}
{{- $managed = append $managed $name }}
{{- end }}
{{- end }}
{{- end }}
{{- join "," $managed }}
{{- end }}

{{/*
webhook.certificate makes sure that one webhook has a serving certificate, as
{crt, key, ca}, under Values.generatedCertificates.<service>. Takes root,
service and values (of the webhook). Generated once per render: the RBAC files
are rendered a second time for the checksum that rolls the pods, and that has
to see the same certificate.

What the control plane keeps is rendered as it is in the cluster, so that an
upgrade does not take a rotation back; or not at all, if the control plane makes
the first one, too. Then there is no crt.
*/}}
{{- define "linkerd.webhook.certificate" -}}
{{- include "linkerd.webhook.validation" .values }}
{{- if not .root.Values.generatedCertificates }}
{{- $_ := set .root.Values "generatedCertificates" dict }}
{{- end }}
{{- $known := .root.Values.generatedCertificates }}
{{- if not (hasKey $known .service) }}
{{- $host := printf "%s.%s.svc" .service .root.Release.Namespace }}
{{- $managed := has (trimPrefix "linkerd-" .service) (splitList "," (include "control-plane.managed-webhooks" .root)) }}
{{- if and .values.crtPEM .values.keyPEM }}
{{- $_ := set $known .service (dict "crt" .values.crtPEM "key" .values.keyPEM "ca" (.values.caBundle | default .values.crtPEM)) }}
{{- else if .values.externalSecret }}
{{- $_ := set $known .service (dict "ca" .values.caBundle) }}
{{- else if and $managed (not .root.Values.webhookCertificates.rendered) }}
{{- $_ := set $known .service dict }}
{{- else }}
{{- if $managed }}
{{- $kind := ternary "MutatingWebhookConfiguration" "ValidatingWebhookConfiguration" (eq .service "linkerd-proxy-injector") }}
{{- $present := (lookup "v1" "Secret" .root.Release.Namespace (printf "%s-k8s-tls" .service)).data | default dict }}
{{- $crt := index $present "tls.crt" | default "" | b64dec }}
{{- $key := index $present "tls.key" | default "" | b64dec }}
{{- if and $crt $key }}
{{- $ca := $crt }}
{{- range (lookup "admissionregistration.k8s.io/v1" $kind "" (include "linkerd.webhook.configuration" .)).webhooks }}
{{- $ca = .clientConfig.caBundle | default "" | b64dec | default $ca }}
{{- end }}
{{- $_ := set $known .service (dict "crt" $crt "key" $key "ca" $ca) }}
{{- end }}
{{- end }}
{{- if not (hasKey $known .service) }}
{{- $pair := genSelfSignedCert $host (list) (list $host) 365 }}
{{- $_ := set $known .service (dict "crt" $pair.Cert "key" $pair.Key "ca" $pair.Cert) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
config-checksum rolls the pods of a webhook when its configuration changes;
takes root and template. Certificates that the control plane keeps do not count:
pods take them without a restart.
*/}}
{{- define "control-plane.config-checksum" -}}
{{- $root := .root }}
{{- with include "control-plane.managed-webhooks" .root }}
{{- $known := deepCopy ($root.Values.generatedCertificates | default dict) }}
{{- range splitList "," . }}
{{- $_ := set $known (printf "linkerd-%s" .) (dict "crt" "" "key" "" "ca" "") }}
{{- end }}
{{- $values := deepCopy $root.Values }}
{{- $_ := set $values "generatedCertificates" $known }}
{{- $root = dict "Values" $values "Release" $root.Release "Chart" $root.Chart "Template" $root.Template "Capabilities" $root.Capabilities }}
{{- end }}
{{- include (print .root.Template.BasePath .template) $root | sha256sum }}
{{- end }}

{{/* webhook.secret renders the serving certificate's Secret; takes root, service, component, values. */}}
{{- define "linkerd.webhook.secret" -}}
{{- include "linkerd.webhook.certificate" . }}
{{- $pair := index .root.Values.generatedCertificates .service -}}
{{- if hasKey $pair "crt" -}}
---
kind: Secret
apiVersion: v1
metadata:
  name: {{ .service }}-k8s-tls
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "control-plane.component-labels" . | nindent 4 }}
  annotations:
    {{- include "partials.annotations.created-by" .root | nindent 4 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ $pair.crt | b64enc }}
  tls.key: {{ $pair.key | b64enc }}
{{- end }}
{{- end }}

{{/* webhook.metadata of a webhook configuration; takes root, service, component, values. */}}
{{- define "linkerd.webhook.metadata" -}}
metadata:
  name: {{ include "linkerd.webhook.configuration" . }}
  {{- with .values.injectCaFrom }}
  annotations:
    cert-manager.io/inject-ca-from: {{ . }}
  {{- end }}
  {{- with .values.injectCaFromSecret }}
  annotations:
    cert-manager.io/inject-ca-from-secret: {{ . }}
  {{- end }}
  labels:
    {{- include "control-plane.component-labels" . | nindent 4 }}
{{- end }}

{{/* webhook.client-config; takes root, service, values. */}}
{{- define "linkerd.webhook.client-config" -}}
{{- include "linkerd.webhook.certificate" . -}}
clientConfig:
  service:
    name: {{ .service }}
    namespace: {{ .root.Release.Namespace }}
    path: "/"
  {{- with index .root.Values.generatedCertificates .service }}
  {{- if and (hasKey . "ca") (not (or $.values.injectCaFrom $.values.injectCaFromSecret)) }}
  caBundle: {{ .ca | b64enc }}
  {{- end }}
  {{- end }}
{{- end }}

{{/* disruption-budget; takes root, component and name. */}}
{{- define "control-plane.disruption-budget" -}}
{{- if .root.Values.enablePodDisruptionBudget -}}
---
kind: PodDisruptionBudget
apiVersion: policy/v1
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "control-plane.component-labels" . | nindent 4 }}
  annotations:
    {{- include "partials.annotations.created-by" .root | nindent 4 }}
spec:
  maxUnavailable: {{ .root.Values.controller.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      linkerd.io/control-plane-component: {{ .component }}
{{- end }}
{{- end }}

{{- define "control-plane.monitor-labels" -}}
linkerd.io/control-plane-ns: {{ .Release.Namespace }}
{{- with .Values.commonLabels }}
{{ toYaml . | trim }}
{{- end }}
{{- with .Values.podMonitor.labels }}
{{ toYaml . | trim }}
{{- end }}
{{- end }}
