{{/*
created-by: which program rendered the object. The CLI and the injector name
themselves in cliVersion; Helm has no such value.
*/}}
{{- define "partials.annotations.created-by" -}}
linkerd.io/created-by: {{ .Values.cliVersion | default (printf "linkerd/helm %s" (default .Values.linkerdVersion (.Values.image | default dict).version)) }}
{{- end }}

{{- define "partials.proxy.annotations" -}}
linkerd.io/proxy-version: {{ .Values.proxy.image.version | default .Values.linkerdVersion }}
cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
linkerd.io/trust-root-sha256: {{ .Values.identityTrustAnchorsPEM | trim | sha256sum }}
{{- end }}

{{- define "partials.proxy.labels" -}}
linkerd.io/proxy-{{ .Values.proxy.workloadKind }}: {{ .Values.proxy.component }}
{{- end }}

{{/* image-pull-secrets takes the list itself. */}}
{{- define "partials.image-pull-secrets" -}}
{{- with . -}}
imagePullSecrets:
{{ toYaml . | trim }}
{{- end }}
{{- end }}
