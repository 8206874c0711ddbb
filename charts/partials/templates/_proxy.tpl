{{/*
proxy: the sidecar (control-plane chapter, section 4.6). The order of the
environment matters: Kubernetes expands $(name) only from variables defined
before.
*/}}
{{- define "partials.proxy" -}}
{{- $proxy := .Values.proxy }}
{{- $await := and $proxy.await true }}
{{- $native := and $proxy.nativeSidecar true -}}
env:
{{ include "partials.proxy.env" . }}
image: {{ $proxy.image.name }}:{{ $proxy.image.version | default .Values.linkerdVersion }}
imagePullPolicy: {{ $proxy.image.pullPolicy | default .Values.imagePullPolicy }}
{{- if not $native }}
{{- if or $await (gt (int64 ($proxy.waitBeforeExitSeconds | default 0)) 0) }}
lifecycle:
  {{- if $await }}
  postStart:
    exec:
      command:
      - /usr/lib/linkerd/linkerd-await
      - --timeout=2m
      - --port={{ int64 $proxy.ports.admin }}
  {{- end }}
  {{- if gt (int64 ($proxy.waitBeforeExitSeconds | default 0)) 0 }}
  preStop:
    exec:
      command:
      - /bin/sleep
      - {{ int64 $proxy.waitBeforeExitSeconds | quote }}
  {{- end }}
{{- end }}
{{- end }}
livenessProbe:
  httpGet:
    path: /live
    port: {{ int64 $proxy.ports.admin }}
  initialDelaySeconds: {{ int64 $proxy.livenessProbe.initialDelaySeconds }}
  timeoutSeconds: {{ int64 $proxy.livenessProbe.timeoutSeconds }}
name: linkerd-proxy
ports:
- containerPort: {{ int64 $proxy.ports.inbound }}
  name: linkerd-proxy
- containerPort: {{ int64 $proxy.ports.admin }}
  name: linkerd-admin
readinessProbe:
  httpGet:
    path: /ready
    port: {{ int64 $proxy.ports.admin }}
  initialDelaySeconds: {{ int64 $proxy.readinessProbe.initialDelaySeconds }}
  timeoutSeconds: {{ int64 $proxy.readinessProbe.timeoutSeconds }}
{{- with include "partials.resources" $proxy.resources }}
{{ . }}
{{- end }}
{{- if $native }}
restartPolicy: Always
{{- end }}
securityContext:
  {{- if $proxy.securityContext }}
  {{- toYaml $proxy.securityContext | trim | nindent 2 }}
  {{- else }}
  allowPrivilegeEscalation: false
  {{- with include "partials.proxy.capabilities" . }}
  {{- . | nindent 2 }}
  {{- end }}
  readOnlyRootFilesystem: true
  {{- if ge (int64 $proxy.gid) 0 }}
  runAsGroup: {{ int64 $proxy.gid }}
  {{- end }}
  runAsNonRoot: true
  runAsUser: {{ int64 $proxy.uid }}
  seccompProfile:
    type: RuntimeDefault
  {{- end }}
{{- if and $native $await }}
startupProbe:
  failureThreshold: {{ int64 $proxy.startupProbe.failureThreshold }}
  httpGet:
    path: /ready
    port: {{ int64 $proxy.ports.admin }}
  initialDelaySeconds: {{ int64 $proxy.startupProbe.initialDelaySeconds }}
  periodSeconds: {{ int64 $proxy.startupProbe.periodSeconds }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
- mountPath: /var/run/linkerd/identity/end-entity
  name: linkerd-identity-end-entity
{{- if ($proxy.tracing | default dict).enabled }}
- mountPath: /var/run/linkerd/podinfo
  name: linkerd-podinfo
{{- end }}
{{- if .Values.identity.serviceAccountTokenProjection }}
- mountPath: /var/run/secrets/tokens
  name: linkerd-identity-token
{{- end }}
{{- with $proxy.saMountPath }}
- mountPath: {{ .mountPath }}
  name: {{ .name }}
  readOnly: {{ .readOnly }}
{{- end }}
{{- end }}

{{- define "partials.proxy.env" -}}
{{- $proxy := .Values.proxy }}
{{- $ns := .Release.Namespace }}
{{- $domain := .Values.clusterDomain }}
{{- $trustDomain := .Values.identityTrustDomain | default $domain }}
{{- $identitySuffix := printf "serviceaccount.identity.%s.%s" $ns $trustDomain }}
{{- $any := ternary "0.0.0.0" "[::]" (eq true .Values.disableIPv6) }}
{{- $workers := dict }}
{{- with $proxy.runtime }}{{ with .workers }}{{ $workers = . }}{{ end }}{{ end }}
{{- $headers := $proxy.logHTTPHeaders | default "off" | toString }}
{{- /* An unquoted off in YAML is the boolean false, which default already replaced. */ -}}
{{- if not (has $headers (list "off" "insecure")) }}
{{- fail "logHTTPHeaders must be one of: insecure | off" }}
{{- end -}}
- name: _pod_name
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: _pod_ns
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: _pod_uid
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: _pod_ip
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: _pod_nodeName
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: _pod_containerName
  value: linkerd-proxy
{{- with ($proxy.cores | default $workers.minimum) }}
- name: LINKERD2_PROXY_CORES
  value: {{ int64 . | quote }}
- name: LINKERD2_PROXY_CORES_MIN
  value: {{ int64 . | quote }}
{{- end }}
{{- with $workers.maximum }}
- name: LINKERD2_PROXY_CORES_MAX
  value: {{ int64 . | quote }}
{{- end }}
{{- with $workers.maximumCPURatio }}
- name: LINKERD2_PROXY_CORES_MAX_RATIO
  value: {{ quote . }}
{{- end }}
{{- with $proxy.requireIdentityOnInboundPorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY
  value: {{ quote . }}
{{- end }}
{{- with $proxy.requireTLSOnInboundPorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS
  value: {{ quote . }}
{{- end }}
- name: LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED
  value: {{ $proxy.enableShutdownEndpoint | default false | quote }}
- name: LINKERD2_PROXY_LOG
  value: {{ printf "%s%s" $proxy.logLevel (ternary "" ",[{headers}]=off,[{request}]=off" (eq $headers "insecure")) | quote }}
- name: LINKERD2_PROXY_LOG_FORMAT
  value: {{ quote $proxy.logFormat }}
- name: LINKERD2_PROXY_DESTINATION_SVC_ADDR
  value: {{ ternary "localhost.:8086" (printf "linkerd-dst-headless.%s.svc.%s.:8086" $ns $domain) (eq (toString $proxy.component) "linkerd-destination") }}
- name: LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS
  value: {{ quote .Values.clusterNetworks }}
- name: LINKERD2_PROXY_POLICY_SVC_ADDR
  value: {{ ternary "localhost.:8090" (printf "linkerd-policy.%s.svc.%s.:8090" $ns $domain) (eq (toString $proxy.component) "linkerd-destination") }}
- name: LINKERD2_PROXY_POLICY_WORKLOAD
  value: |
    {"ns":"$(_pod_ns)", "pod":"$(_pod_name)"}
- name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY
  value: {{ $proxy.defaultInboundPolicy }}
- name: LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS
  value: {{ quote .Values.clusterNetworks }}
{{- with ($proxy.control | default dict).streams }}
{{- with .initialTimeout }}
- name: LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT
  value: {{ quote . }}
{{- end }}
{{- with .idleTimeout }}
- name: LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT
  value: {{ quote . }}
{{- end }}
{{- with .lifetime }}
- name: LINKERD2_PROXY_CONTROL_STREAM_LIFETIME
  value: {{ quote . }}
{{- end }}
{{- end }}
- name: LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT
  value: {{ quote $proxy.inboundConnectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT
  value: {{ quote $proxy.outboundConnectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ quote $proxy.outboundDiscoveryCacheUnusedTimeout }}
- name: LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ quote $proxy.inboundDiscoveryCacheUnusedTimeout }}
{{- if $proxy.disableOutboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT
  value: "365d"
{{- end }}
{{- if $proxy.disableInboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT
  value: "365d"
{{- end }}
- name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR
  value: "{{ $any }}:{{ int64 $proxy.ports.control }}"
- name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR
  value: "{{ $any }}:{{ int64 $proxy.ports.admin }}"
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR
  value: "127.0.0.1:{{ int64 $proxy.ports.outbound }}"
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS
  value: "127.0.0.1:{{ int64 $proxy.ports.outbound }}{{ if not .Values.disableIPv6 }},[::1]:{{ int64 $proxy.ports.outbound }}{{ end }}"
- name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR
  value: "{{ $any }}:{{ int64 $proxy.ports.inbound }}"
- name: LINKERD2_PROXY_INBOUND_IPS
  valueFrom:
    fieldRef:
      fieldPath: status.podIPs
- name: LINKERD2_PROXY_INBOUND_PORTS
  value: {{ $proxy.podInboundPorts | default "" | quote }}
{{- if $proxy.isGateway }}
- name: LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES
  value: {{ printf "svc.%s." $domain }}
{{- end }}
{{- if $proxy.isIngress }}
- name: LINKERD2_PROXY_INGRESS_MODE
  value: "true"
{{- end }}
- name: LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES
  value: {{ ternary "." (printf "svc.%s." $domain) (eq true $proxy.enableExternalProfiles) | quote }}
- name: LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE
  value: 10000ms
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE
  value: 10000ms
- name: LINKERD2_PROXY_INBOUND_ACCEPT_USER_TIMEOUT
  value: 30s
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_USER_TIMEOUT
  value: 30s
{{- if hasKey ($proxy.metrics | default dict) "hostnameLabels" }}
- name: LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS
  value: {{ $proxy.metrics.hostnameLabels | default false | quote }}
{{- end }}
{{- with $proxy.tracing }}
{{- if .enabled }}
{{- $collector := .collector | default dict }}
{{- $meshIdentity := $collector.meshIdentity | default dict }}
- name: LINKERD2_PROXY_TRACE_ATTRIBUTES_PATH
  value: /var/run/linkerd/podinfo/labels
- name: LINKERD2_PROXY_TRACE_ANNOTATIONS_PATH
  value: /var/run/linkerd/podinfo/annotations
- name: LINKERD2_PROXY_TRACE_PROTOCOL
  value: {{ .protocol | default "opentelemetry" }}
{{- with .sampleRatio }}
- name: LINKERD2_PROXY_TRACE_SAMPLE_RATIO
  value: {{ quote . }}
{{- end }}
- name: LINKERD2_PROXY_TRACE_SERVICE_NAME
  value: {{ .traceServiceName | quote }}
- name: LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR
  value: {{ required "proxy.tracing.collector.endpoint must be set if proxy tracing is enabled" $collector.endpoint | quote }}
- name: LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME
  value: {{ printf "%s.%s.%s"
    (required "proxy.tracing.collector.meshIdentity.serviceAccountName must be set if proxy tracing is enabled" $meshIdentity.serviceAccountName)
    (required "proxy.tracing.collector.meshIdentity.namespace must be set if proxy tracing is enabled" $meshIdentity.namespace)
    $identitySuffix }}
- name: LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES
  value: |
    {{- range $key, $value := .labels }}
    {{ printf "%s=%v" $key $value }}
    {{- end }}
{{- end }}
{{- end }}
{{- with include "partials.proxy.env.tree" (dict "prefix" "LINKERD2_PROXY_INBOUND" "tree" $proxy.inbound) | trim }}
{{ . }}
{{- end }}
{{- with include "partials.proxy.env.tree" (dict "prefix" "LINKERD2_PROXY_OUTBOUND" "tree" $proxy.outbound) | trim }}
{{ . }}
{{- end }}
{{- with $proxy.opaquePorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION
  value: {{ quote . }}
{{- end }}
- name: LINKERD2_PROXY_DESTINATION_CONTEXT
  value: |
    {"ns":"$(_pod_ns)", "nodeName":"$(_pod_nodeName)", "pod":"$(_pod_name)"}
- name: _pod_sa
  valueFrom:
    fieldRef:
      fieldPath: spec.serviceAccountName
- name: _l5d_ns
  value: {{ $ns }}
- name: _l5d_trustdomain
  value: {{ $trustDomain }}
- name: LINKERD2_PROXY_IDENTITY_DIR
  value: /var/run/linkerd/identity/end-entity
- name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
{{- if $proxy.loadTrustBundleFromConfigMap }}
  valueFrom:
    configMapKeyRef:
      key: ca-bundle.crt
      name: linkerd-identity-trust-roots
{{- else }}
  value: {{ .Values.identityTrustAnchorsPEM | toJson }}
{{- end }}
- name: LINKERD2_PROXY_IDENTITY_TOKEN_FILE
  value: {{ ternary "/var/run/secrets/tokens/linkerd-identity-token" "/var/run/secrets/kubernetes.io/serviceaccount/token" (eq true .Values.identity.serviceAccountTokenProjection) }}
- name: LINKERD2_PROXY_IDENTITY_SVC_ADDR
  value: {{ ternary "localhost.:8080" (printf "linkerd-identity-headless.%s.svc.%s.:8080" $ns $domain) (eq (toString $proxy.component) "linkerd-identity") }}
- name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME
  value: {{ printf "$(_pod_sa).$(_pod_ns).%s" $identitySuffix }}
- name: LINKERD2_PROXY_IDENTITY_SVC_NAME
  value: {{ printf "linkerd-identity.%s.%s" $ns $identitySuffix }}
- name: LINKERD2_PROXY_DESTINATION_SVC_NAME
  value: {{ printf "linkerd-destination.%s.%s" $ns $identitySuffix }}
- name: LINKERD2_PROXY_POLICY_SVC_NAME
  value: {{ printf "linkerd-destination.%s.%s" $ns $identitySuffix }}
{{- with $proxy.accessLog }}
- name: LINKERD2_PROXY_ACCESS_LOG
  value: {{ quote . }}
{{- end }}
{{- with $proxy.outboundAccessLog }}
- name: LINKERD2_PROXY_OUTBOUND_ACCESS_LOG
  value: {{ quote . }}
{{- end }}
{{- with $proxy.inboundForwardedFor }}
- name: LINKERD2_PROXY_INBOUND_FORWARDED_FOR
  value: {{ quote . }}
{{- end }}
{{- with $proxy.inboundProxyProtocolPorts }}
- name: LINKERD2_PROXY_INBOUND_PROXY_PROTOCOL_PORTS
  value: {{ quote . }}
{{- end }}
{{- with $proxy.shutdownGracePeriod }}
- name: LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD
  value: {{ quote . }}
{{- end }}
{{- with $proxy.shutdownTCPGracePeriod }}
- name: LINKERD2_PROXY_SHUTDOWN_TCP_GRACE_PERIOD
  value: {{ quote . }}
{{- end }}
{{- with $proxy.additionalEnv }}
{{ toYaml . | trim }}
{{- end }}
{{- with $proxy.experimentalEnv }}
{{ toYaml . | trim }}
{{- end }}
{{- end }}

{{/*
env.tree turns nested maps into variables: {server: {http2: {keepAliveInterval:
10s}}} below LINKERD2_PROXY_INBOUND gives
LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL. Takes prefix and tree.
*/}}
{{- define "partials.proxy.env.tree" -}}
{{- $prefix := .prefix }}
{{- range $key, $value := .tree }}
{{- $name := printf "%s_%s" $prefix (regexReplaceAll "([a-z0-9])([A-Z])" $key "${1}_${2}" | upper) }}
{{- if kindIs "map" $value }}
{{- include "partials.proxy.env.tree" (dict "prefix" $name "tree" $value) }}
{{- else if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ quote $value }}
{{- end }}
{{- end }}
{{- end }}
