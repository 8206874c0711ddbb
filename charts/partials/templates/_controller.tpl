{{/* trace: the argument that turns tracing of a controller on, if wanted. */}}
{{- define "partials.linkerd.trace" -}}
{{- if .Values.controller.tracing.enabled -}}
{{- $endpoint := .Values.controller.tracing.collector.endpoint | default .Values.proxy.tracing.collector.endpoint -}}
- -trace-collector={{ required "controller.tracing.collector.endpoint or proxy.tracing.collector.endpoint must be set if control plane tracing is enabled" $endpoint }}
{{- end }}
{{- end }}

{{/* webhook.validation refuses contradictory certificate settings; takes one webhook's values. */}}
{{- define "linkerd.webhook.validation" -}}
{{- if and .injectCaFrom .injectCaFromSecret -}}
{{- fail "injectCaFrom and injectCaFromSecret cannot both be set" -}}
{{- end -}}
{{- if and (or .injectCaFrom .injectCaFromSecret) .caBundle -}}
{{- fail "injectCaFrom or injectCaFromSecret cannot be set if providing a caBundle" -}}
{{- end -}}
{{- if and .externalSecret (not .caBundle) (not .injectCaFrom) (not .injectCaFromSecret) -}}
{{- fail "if externalSecret is set, then caBundle, injectCaFrom, or injectCaFromSecret must be set" -}}
{{- end -}}
{{- if and (or .injectCaFrom .injectCaFromSecret) (not .externalSecret) -}}
{{- fail "if injectCaFrom or injectCaFromSecret is set, then externalSecret must be set" -}}
{{- end -}}
{{- end }}
