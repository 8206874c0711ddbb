{{/*
resources takes {cpu,memory,ephemeral-storage}.{limit,request} and writes only
what is given: an empty quantity would be refused by the API server.
*/}}
{{- define "partials.resources" -}}
{{- $limits := dict }}
{{- $requests := dict }}
{{- range $resource := list "cpu" "memory" "ephemeral-storage" }}
{{- with index ($ | default dict) $resource }}
{{- with .limit }}{{ $_ := set $limits $resource (toString .) }}{{ end }}
{{- with .request }}{{ $_ := set $requests $resource (toString .) }}{{ end }}
{{- end }}
{{- end }}
{{- if or $limits $requests -}}
resources:
  {{- with $limits }}
  limits:
    {{- toYaml . | trim | nindent 4 }}
  {{- end }}
  {{- with $requests }}
  requests:
    {{- toYaml . | trim | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* proxy.capabilities writes what the caller put into proxy.capabilities. */}}
{{- define "partials.proxy.capabilities" -}}
{{- with .Values.proxy.capabilities -}}
capabilities:
  {{- with .add }}
  add:
  {{- toYaml . | trim | nindent 2 }}
  {{- end }}
  {{- with .drop }}
  drop:
  {{- toYaml . | trim | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "linkerd.node-selector" -}}
nodeSelector:
  {{- toYaml .Values.nodeSelector | trim | nindent 2 }}
{{- end }}

{{- define "linkerd.tolerations" -}}
tolerations:
{{ toYaml .Values.tolerations | trim }}
{{- end }}

{{- define "linkerd.node-affinity" -}}
nodeAffinity:
  {{- toYaml .Values.nodeAffinity | trim | nindent 2 }}
{{- end }}

{{/*
pod-affinity keeps replicas of one component on different nodes (required) and
in different zones (preferred). Takes component, and label where the pods of
the component are not marked with linkerd.io/control-plane-component.
*/}}
{{- define "linkerd.pod-affinity" -}}
{{- $label := default "linkerd.io/control-plane-component" .label -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
  - podAffinityTerm:
      labelSelector:
        matchExpressions:
        - key: {{ $label }}
          operator: In
          values:
          - {{ .component }}
      topologyKey: topology.kubernetes.io/zone
    weight: 100
  requiredDuringSchedulingIgnoredDuringExecution:
  - labelSelector:
      matchExpressions:
      - key: {{ $label }}
        operator: In
        values:
        - {{ .component }}
    topologyKey: kubernetes.io/hostname
{{- end }}

{{/* affinity joins both kinds; takes Values, component and optionally label. */}}
{{- define "linkerd.affinity" -}}
{{- if or .Values.enablePodAntiAffinity .Values.nodeAffinity -}}
affinity:
  {{- if .Values.enablePodAntiAffinity }}
  {{- include "linkerd.pod-affinity" . | nindent 2 }}
  {{- end }}
  {{- if .Values.nodeAffinity }}
  {{- include "linkerd.node-affinity" . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
The pods of the mesh turn automatic token mounting off, so that the proxy never
holds an API credential, and mount the token into the one container that
needs it.
*/}}
{{- define "partials.volumes.manual-mount-service-account-token" -}}
name: kube-api-access
projected:
  defaultMode: 420
  sources:
  - serviceAccountToken:
      expirationSeconds: 3607
      path: token
  - configMap:
      items:
      - key: ca.crt
        path: ca.crt
      name: kube-root-ca.crt
  - downwardAPI:
      items:
      - fieldRef:
          apiVersion: v1
          fieldPath: metadata.namespace
        path: namespace
{{- end }}

{{- define "partials.volumeMounts.manual-mount-service-account-token" -}}
mountPath: /var/run/secrets/kubernetes.io/serviceaccount
name: kube-api-access
readOnly: true
{{- end }}

{{/* identity: the private key and certificate of the proxy live in memory only. */}}
{{- define "partials.proxy.volumes.identity" -}}
emptyDir:
  medium: Memory
name: linkerd-identity-end-entity
{{- end }}

{{- define "partials.proxy.volumes.podinfo" -}}
downwardAPI:
  items:
  - fieldRef:
      fieldPath: metadata.labels
    path: labels
  - fieldRef:
      fieldPath: metadata.annotations
    path: annotations
name: linkerd-podinfo
{{- end }}

{{- define "partials.proxy.volumes.service-account-token" -}}
name: linkerd-identity-token
projected:
  sources:
  - serviceAccountToken:
      audience: identity.l5d.io
      expirationSeconds: 86400
      path: linkerd-identity-token
{{- end }}

{{- define "partials.proxy-init.volumes.xtables" -}}
emptyDir: {}
name: {{ .Values.proxyInit.xtMountPath.name }}
{{- end }}
