{{/* What the values change in the objects that the kustomizations make. Each works on one object, and prints nothing. */}}

{{/* crikpy.chosen: the folders that the values ask for, in the order in which kustomize would take them. A new
     component is one line here, its value in values.yaml and values.schema.json, and a case of tests/manifests. */}}
{{- define "crikpy.chosen" -}}
- controller/overlays/{{ .Values.store.kind }}
{{- if and .Values.offSpot (not (hasPrefix "eks-" .Values.store.kind)) }}
- controller/components/off-spot
{{- end }}
{{- if .Values.readPullSecrets }}
- controller/components/pull-secrets
{{- end }}
{{- if .Values.tidy.enabled }}
- controller/components/tidy
{{- end }}
{{- if .Values.sealed.enabled }}
- controller/components/sealed
{{- end }}
{{- if .Values.sealedKms.enabled }}
- controller/components/sealed-kms
{{- end }}
{{- if .Values.prometheus.enabled }}
- controller/components/prometheus
{{- end }}
{{- if .Values.grafana.enabled }}
- controller/components/grafana
{{- end }}
{{- if .Values.page.enabled }}
- controller/components/page
{{- end }}
{{- if .Values.traces.endpoint }}
- controller/components/traces
{{- end }}
{{- end -}}

{{/* crikpy.image: the reference of one of our images. */}}
{{- define "crikpy.image" -}}
{{- $image := .root.Values.image -}}
{{- $digest := get $image.digests .name -}}
{{ $image.registry }}/{{ .name }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ if $digest }}@{{ $digest }}{{ end }}
{{- end -}}

{{/* crikpy.config: the settings that the values stand for, one map. */}}
{{- define "crikpy.config" -}}
{{- $store := .Values.store -}}
CRIKPY_KUBE_CLUSTER: {{ required "cluster: give this cluster a name, under which the store keeps its jobs" .Values.cluster | quote }}
CRIKPY_CONTROLLER_LAUNCHER_IMAGE: {{ include "crikpy.image" (dict "root" . "name" "launcher") | quote }}
{{- if has $store.kind (list "eks-pod-identity" "eks-irsa" "s3-compatible") }}
CRIKPY_STORE: {{ required (printf "store.url: %s needs s3://BUCKET/PREFIX" $store.kind) $store.url | quote }}
{{- if $store.region }}
CRIKPY_STORE_REGION: {{ $store.region | quote }}
{{- end }}
{{- end }}
{{- if eq $store.kind "s3-compatible" }}
CRIKPY_STORE_ENDPOINT: {{ required "store.endpoint: s3-compatible needs the server's URL" $store.endpoint | quote }}
CRIKPY_STORE_PATH_STYLE: {{ $store.pathStyle | quote }}
{{- end }}
{{- if .Values.sealedKms.enabled }}
CRIKPY_STORE_KMS_KEY: {{ .Values.sealedKms.key | quote }}
{{- end }}
{{- if .Values.traces.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .Values.traces.endpoint | quote }}
{{- end }}
{{- if .Values.notices.queueUrl }}
CRIKPY_SOURCES_QUEUE_URL: {{ .Values.notices.queueUrl | quote }}
{{- end }}
{{- end -}}

{{/* crikpy.pod: what holds for the pods of all of ours. */}}
{{- define "crikpy.pod" -}}
{{- $values := .root.Values -}}
{{- $pod := .pod -}}
{{- with $values.image.pullSecrets -}}
  {{- $names := list -}}
  {{- range . }}{{ $names = append $names (dict "name" .) }}{{ end -}}
  {{- $_ := set $pod "imagePullSecrets" $names -}}
{{- end -}}
{{- range $pod.containers -}}
  {{- $name := regexFind "[a-z]+:" .image | trimSuffix ":" -}}
  {{- $_ := set . "image" (include "crikpy.image" (dict "root" $.root "name" $name)) -}}
  {{- if $values.image.pullPolicy }}{{ $_ := set . "imagePullPolicy" $values.image.pullPolicy }}{{ end -}}
  {{- range .env -}}
    {{- $secret := dig "valueFrom" "secretKeyRef" dict . -}}
    {{- if eq (get $secret "name") "crikpy-store" }}{{ $_ := set $secret "name" $values.store.secret }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- range $pod.volumes -}}
  {{- if and .secret (eq .name "keys") }}{{ $_ := set .secret "secretName" $values.sealed.secret }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* crikpy.placed: resources, tolerations and so on of one workload. */}}
{{- define "crikpy.placed" -}}
{{- $pod := .pod -}}
{{- range $key := list "tolerations" "priorityClassName" "affinity" -}}
  {{- $value := get $.values $key -}}
  {{- if $value }}{{ $_ := set $pod $key $value }}{{ end -}}
{{- end -}}
{{- if .values.nodeSelector -}}
  {{- $_ := set $pod "nodeSelector" (merge (dict) .values.nodeSelector $pod.nodeSelector) -}}
{{- end -}}
{{- if .values.resources }}{{ $_ := set (first $pod.containers) "resources" .values.resources }}{{ end -}}
{{- end -}}

{{/* crikpy.adjusted: one object as the values want it; `config` is the map of all settings. */}}
{{- define "crikpy.adjusted" -}}
{{- $values := .root.Values -}}
{{- $object := .object -}}
{{- $pod := dig "spec" "template" "spec" dict $object -}}
{{- if eq $object.kind "CronJob" }}{{ $pod = $object.spec.jobTemplate.spec.template.spec }}{{ end -}}
{{- if $pod }}{{ $_ := include "crikpy.pod" (dict "root" .root "pod" $pod) }}{{ end -}}
{{- if eq $object.kind "DaemonSet" -}}
  {{- $_ := include "crikpy.placed" (dict "pod" $pod "values" $values.agent) -}}
  {{- range $pod.volumes -}}
    {{- if and (eq .name "store") .hostPath }}{{ $_ := set .hostPath "path" $values.store.directory }}{{ end -}}
    {{- if and (eq .name "store") .nfs -}}
      {{- $_ := set .nfs "server" (required "store.nfs.server: nfs needs the server's name" $values.store.nfs.server) -}}
      {{- $_ := set .nfs "path" (required "store.nfs.path: nfs needs the export's path" $values.store.nfs.path) -}}
    {{- end -}}
  {{- end -}}
{{- else if eq $object.kind "Deployment" -}}
  {{- $_ := include "crikpy.placed" (dict "pod" $pod "values" $values.controller) -}}
  {{- $_ := set $object.spec "replicas" $values.controller.replicas -}}
{{- else if eq $object.kind "CronJob" -}}
  {{- $_ := set $object.spec "schedule" $values.tidy.schedule -}}
  {{- $container := first $pod.containers -}}
  {{- $_ := set $container "args" (concat (initial $container.args) (list $values.tidy.ttl)) -}}
{{- else if eq $object.kind "ServiceAccount" -}}
  {{- if and (eq $values.store.kind "eks-irsa") (eq $object.metadata.name "crikpy-agent") -}}
    {{- $arn := required "store.roleArn: eks-irsa needs the ARN of the agents' role" $values.store.roleArn -}}
    {{- $_ := set $object.metadata.annotations "eks.amazonaws.com/role-arn" $arn -}}
  {{- else if and $values.notices.roleArn (eq $object.metadata.name "crikpy-controller") -}}
    {{- $_ := set $object.metadata "annotations" (dict "eks.amazonaws.com/role-arn" $values.notices.roleArn "eks.amazonaws.com/sts-regional-endpoints" "true") -}}
  {{- end -}}
{{- else if and (eq $object.kind "NetworkPolicy") (eq $object.metadata.name "crikpy-traces") -}}
  {{- $url := urlParse $values.traces.endpoint -}}
  {{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
  {{- $_ := set (first (first $object.spec.egress).ports) "port" (int $port) -}}
{{- else if and (eq $object.kind "CustomResourceDefinition") $values.crd.keep -}}
  {{- $_ := set $object.metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") ($object.metadata.annotations | default dict)) -}}
{{- end -}}
{{- if and (has $object.kind (list "DaemonSet" "Deployment")) -}}
  {{- $_ := set $object.spec.template.metadata.annotations "checksum/config" (sha256sum (toJson .config)) -}}
{{- end -}}
{{- end -}}

{{/* crikpy.print: one object as a document, in the release's namespace. */}}
{{- define "crikpy.print" -}}
{{- $labels := dict "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set .object.metadata "labels" (merge $labels (.object.metadata.labels | default dict)) -}}
---
{{ toYaml .object | replace "crikpy-system" .root.Release.Namespace }}
{{ end -}}
