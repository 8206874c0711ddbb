{{/*
proxy-init: redirects the pod's traffic to the proxy (control-plane chapter,
section 4.6). It runs as a non-root user with NET_ADMIN and NET_RAW unless the
values ask for root.
*/}}
{{- define "partials.proxy-init" -}}
{{- $init := .Values.proxyInit }}
{{- $proxy := .Values.proxy }}
{{- if not (has $init.iptablesMode (list "nft" "legacy")) }}
{{- fail (printf "proxyInit.iptablesMode must be one of: nft | legacy (got %v)" $init.iptablesMode) }}
{{- end }}
{{- $closeWait := int64 ($init.closeWaitTimeoutSecs | default 0) }}
{{- if and (gt $closeWait 0) (not $init.runAsRoot) }}
{{- fail "proxyInit.runAsRoot must be set to use proxyInit.closeWaitTimeoutSecs" }}
{{- end }}
{{- $elevated := or (gt $closeWait 0) ($init.privileged | default false) }}
{{- $capabilities := $init.capabilities | default dict }}
{{- $ignoredInbound := printf "%v,%v" (int64 $proxy.ports.control) (int64 $proxy.ports.admin) -}}
args:
{{- if eq $init.iptablesMode "nft" }}
- --firewall-bin-path
- iptables-nft
- --firewall-save-bin-path
- iptables-nft-save
{{- end }}
{{- if .Values.disableIPv6 }}
- --ipv6=false
{{- end }}
- --incoming-proxy-port
- {{ int64 $proxy.ports.inbound | quote }}
- --outgoing-proxy-port
- {{ int64 $proxy.ports.outbound | quote }}
- --proxy-uid
- {{ int64 $proxy.uid | quote }}
{{- if ge (int64 $proxy.gid) 0 }}
- --proxy-gid
- {{ int64 $proxy.gid | quote }}
{{- end }}
- --inbound-ports-to-ignore
- {{ if $init.ignoreInboundPorts }}{{ printf "%s,%v" $ignoredInbound $init.ignoreInboundPorts | quote }}{{ else }}{{ quote $ignoredInbound }}{{ end }}
{{- with $init.ignoreOutboundPorts }}
- --outbound-ports-to-ignore
- {{ quote . }}
{{- end }}
{{- if gt $closeWait 0 }}
- --timeout-close-wait-secs
- {{ $closeWait | quote }}
{{- end }}
{{- with $init.logFormat }}
- --log-format
- {{ quote . }}
{{- end }}
{{- with $init.logLevel }}
- --log-level
- {{ quote . }}
{{- end }}
{{- with $init.skipSubnets }}
- --subnets-to-ignore
- {{ quote . }}
{{- end }}
{{- with $init.skipOutboundSubnets }}
- --outbound-subnets-to-ignore
- {{ quote . }}
{{- end }}
command:
- /usr/lib/linkerd/linkerd2-proxy-init
image: {{ $proxy.image.name }}:{{ $proxy.image.version | default .Values.linkerdVersion }}
imagePullPolicy: {{ $proxy.image.pullPolicy | default .Values.imagePullPolicy }}
name: linkerd-init
{{- with include "partials.resources" $proxy.resources }}
{{ . }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: {{ $elevated }}
  capabilities:
    add:
    - NET_ADMIN
    - NET_RAW
    {{- range $capabilities.add }}
    {{- if not (has . (list "NET_ADMIN" "NET_RAW")) }}
    - {{ . }}
    {{- end }}
    {{- end }}
    {{- with without ($capabilities.drop | default list) "NET_ADMIN" "NET_RAW" }}
    drop:
    {{- toYaml . | trim | nindent 4 }}
    {{- end }}
  privileged: {{ $elevated }}
  readOnlyRootFilesystem: true
  {{- if $init.runAsRoot }}
  runAsGroup: 0
  runAsNonRoot: false
  runAsUser: 0
  {{- else }}
  runAsGroup: {{ $init.runAsGroup | default 65534 | int64 }}
  runAsNonRoot: true
  runAsUser: {{ $init.runAsUser | default 65534 | int64 }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
- mountPath: {{ $init.xtMountPath.mountPath }}
  name: {{ $init.xtMountPath.name }}
{{- with $init.saMountPath }}
- mountPath: {{ .mountPath }}
  name: {{ .name }}
  readOnly: {{ .readOnly }}
{{- end }}
{{- end }}

{{/*
network-validator: with the CNI plugin in charge of redirection, fails (and is
restarted) until a connection to connectAddr arrives at listenAddr, which shows
that the plugin's rules are in place.
*/}}
{{- define "partials.network-validator" -}}
{{- $validator := .Values.networkValidator }}
{{- $proxy := .Values.proxy }}
{{- $outbound := int64 $proxy.ports.outbound -}}
args:
- --log-format
- {{ $validator.logFormat | quote }}
- --log-level
- {{ $validator.logLevel | quote }}
- --connect-addr
- {{ $validator.connectAddr | default (ternary "1.1.1.1:20001" "[fd00::1]:20001" (eq true .Values.disableIPv6)) | quote }}
- --listen-addr
- {{ $validator.listenAddr | default (ternary (printf "0.0.0.0:%d" $outbound) (printf "[::]:%d" $outbound) (eq true .Values.disableIPv6)) | quote }}
- --timeout
- {{ $validator.timeout | quote }}
command:
- /usr/lib/linkerd/linkerd2-network-validator
image: {{ $proxy.image.name }}:{{ $proxy.image.version | default .Values.linkerdVersion }}
imagePullPolicy: {{ $proxy.image.pullPolicy | default .Values.imagePullPolicy }}
name: linkerd-network-validator
{{- with include "partials.resources" $proxy.resources }}
{{ . }}
{{- end }}
{{- if ne false $validator.enableSecurityContext }}
securityContext:
  {{- if $validator.securityContext }}
  {{- toYaml $validator.securityContext | trim | nindent 2 }}
  {{- else }}
  allowPrivilegeEscalation: false
  capabilities:
    drop:
    - ALL
  readOnlyRootFilesystem: true
  runAsGroup: 65534
  runAsNonRoot: true
  runAsUser: 65534
  seccompProfile:
    type: RuntimeDefault
  {{- end }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* debug: a container with network tools, kept alive by its own entry point. */}}
{{- define "partials.debug" -}}
image: {{ .Values.debugContainer.image.name }}:{{ .Values.debugContainer.image.version | default .Values.linkerdVersion }}
imagePullPolicy: {{ .Values.debugContainer.image.pullPolicy | default .Values.imagePullPolicy }}
livenessProbe:
  exec:
    command:
    - "true"
name: linkerd-debug
readinessProbe:
  exec:
    command:
    - "true"
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
