{{/* labels of every object: uninstall finds what is not in the namespace by them. */}}
{{- define "linkerd-smi.labels" -}}
linkerd.io/extension: smi
{{- with .Values.commonLabels }}
{{ toYaml . | trim }}
{{- end }}
{{- end }}

{{/* image takes root and image. */}}
{{- define "linkerd-smi.image" -}}
image: {{ .image.registry }}/{{ .image.name }}:{{ .image.tag | default .root.Values.linkerdVersion }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* security-context takes the user. */}}
{{- define "linkerd-smi.security-context" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop:
    - ALL
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: {{ int64 . }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* hook makes an object one that Helm makes after an install and then removes; takes its weight. */}}
{{- define "linkerd-smi.hook" -}}
helm.sh/hook: post-install
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-weight: {{ quote . }}
{{- end }}
