{{- define "linkerd2-cni.labels" -}}
linkerd.io/cni-resource: "true"
{{- with .Values.commonLabels }}
{{ toYaml . | trim }}
{{- end }}
{{- end }}

{{/* ports splits a comma list into a list of strings. */}}
{{- define "linkerd2-cni.ignored-inbound" -}}
{{- $ports := list (int64 .Values.proxyAdminPort | toString) (int64 .Values.proxyControlPort | toString) }}
{{- range splitList "," (toString .Values.ignoreInboundPorts) }}
{{- if . }}{{ $ports = append $ports . }}{{ end }}
{{- end }}
{{- $ports | toJson }}
{{- end }}

{{/*
network-config is what the plugin is called with, as JSON. The kubeconfig is
where the installer put it, which only the installer knows.
*/}}
{{- define "linkerd2-cni.network-config" -}}
{{- $linkerd := dict
  "incoming-proxy-port" (int64 .Values.inboundProxyPort)
  "outgoing-proxy-port" (int64 .Values.outboundProxyPort)
  "proxy-uid" (int64 .Values.proxyUID)
  "inbound-ports-to-ignore" (include "linkerd2-cni.ignored-inbound" . | fromJsonArray)
  "simulate" false
  "use-wait-flag" (eq true .Values.useWaitFlag)
  "iptables-mode" .Values.iptablesMode
  "ipv6" (ne true .Values.disableIPv6) }}
{{- if ge (int64 .Values.proxyGID) 0 }}
{{- $_ := set $linkerd "proxy-gid" (int64 .Values.proxyGID) }}
{{- end }}
{{- $redirect := list }}
{{- range splitList "," (toString .Values.portsToRedirect) }}
{{- if . }}{{ $redirect = append $redirect (int64 .) }}{{ end }}
{{- end }}
{{- $_ := set $linkerd "ports-to-redirect" $redirect }}
{{- if .Values.ignoreOutboundPorts }}
{{- $_ := set $linkerd "outbound-ports-to-ignore" (splitList "," (toString .Values.ignoreOutboundPorts)) }}
{{- end }}
{{- dict
  "name" "linkerd-cni"
  "type" "linkerd-cni"
  "log_level" .Values.logLevel
  "kubernetes" (dict "kubeconfig" "__KUBECONFIG_FILEPATH__")
  "linkerd" $linkerd | toPrettyJson }}
{{- end }}
