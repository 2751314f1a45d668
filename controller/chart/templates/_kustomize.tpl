{{/*
What kustomize does, as far as this chart's kustomizations need it. They lie in files/ as they are in the repository
(hack/chart copies them), so that there is one source of what is installed; tests compare the outcome with kubectl's.

The first argument of each is the root context, `state` a dict whose `objects` grow. All of them print nothing.
*/}}

{{/* crikpy.folder: take in a kustomization and all that it names. */}}
{{- define "crikpy.folder" -}}
{{- $root := .root -}}
{{- $state := .state -}}
{{- $folder := .folder -}}
{{- $text := $root.Files.Get (printf "files/%s/kustomization.yaml" $folder) -}}
{{- if not $text }}{{ fail (printf "this chart has no %s" $folder) }}{{ end -}}
{{- $own := fromYaml $text -}}
{{- range $own.resources -}}
  {{- $path := clean (printf "%s/%s" $folder .) -}}
  {{- if hasSuffix ".yaml" $path -}}
    {{- range (include "crikpy.documents" ($root.Files.Get (printf "files/%s" $path)) | fromYamlArray) -}}
      {{- $_ := set $state "objects" (append $state.objects .) -}}
    {{- end -}}
  {{- else -}}
    {{- $_ := include "crikpy.folder" (dict "root" $root "state" $state "folder" $path) -}}
  {{- end -}}
{{- end -}}
{{- range $own.components -}}
  {{- $path := clean (printf "%s/%s" $folder .) -}}
  {{- $_ := include "crikpy.folder" (dict "root" $root "state" $state "folder" $path) -}}
{{- end -}}
{{- range $own.configMapGenerator -}}
  {{- if .files }}{{ $_ := include "crikpy.files" (dict "root" $root "state" $state "folder" $folder "made" .) }}{{ end -}}
  {{- $lines := .literals | default list -}}
  {{- range .envs -}}
    {{- $lines = concat $lines (splitList "\n" ($root.Files.Get (printf "files/%s/%s" $folder .))) -}}
  {{- end -}}
  {{- range $lines -}}
    {{- if and . (not (hasPrefix "#" .)) -}}
      {{- $_ := set $state.config (. | splitn "=" 2)._0 (. | splitn "=" 2)._1 -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $own.patches -}}
  {{- $patch := fromYaml ($root.Files.Get (printf "files/%s/%s" $folder .path)) -}}
  {{- $_ := include "crikpy.patch" (dict "state" $state "patch" $patch "needed" (not .target)) -}}
{{- end -}}
{{- range $own.labels -}}
  {{- $label := . -}}
  {{- range $state.objects -}}
    {{- $_ := set .metadata "labels" (merge (.metadata.labels | default dict) $label.pairs) -}}
    {{- $template := dig "spec" "template" dict . -}}
    {{- if and $label.includeTemplates (hasKey $template "metadata") -}}
      {{- $_ := set $template.metadata "labels" (merge $template.metadata.labels $label.pairs) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* crikpy.files: a ConfigMap of its own, made of files under their own names. */}}
{{- define "crikpy.files" -}}
{{- $data := dict -}}
{{- range .made.files -}}
  {{- $_ := set $data . ($.root.Files.Get (printf "files/%s/%s" $.folder .)) -}}
{{- end -}}
{{- $named := dict "name" .made.name "namespace" .made.namespace "labels" .made.options.labels -}}
{{- $map := dict "apiVersion" "v1" "kind" "ConfigMap" "metadata" $named "data" $data -}}
{{- $_ := set .state "objects" (append .state.objects $map) -}}
{{- end -}}

{{/* crikpy.documents: a file's objects as one list. */}}
{{- define "crikpy.documents" -}}
{{- $objects := list -}}
{{- range regexSplit "(?m)^---$" . -1 -}}
  {{- $object := fromYaml . -}}
  {{- if $object.kind }}{{ $objects = append $objects $object }}{{ end -}}
{{- end -}}
{{- toYaml $objects -}}
{{- end -}}

{{/* crikpy.patch: change the object that has the patch's kind and name. */}}
{{- define "crikpy.patch" -}}
{{- $patch := .patch -}}
{{- $found := false -}}
{{- range .state.objects -}}
  {{- if and (eq .kind $patch.kind) (eq .metadata.name $patch.metadata.name) -}}
    {{- $found = true -}}
    {{- $_ := include "crikpy.merge" (dict "into" . "from" $patch) -}}
  {{- end -}}
{{- end -}}
{{- if and .needed (not $found) }}{{ fail (printf "nothing is patched by %s %s" $patch.kind $patch.metadata.name) }}{{ end -}}
{{- end -}}

{{/* crikpy.merge: a strategic merge of two maps; null removes, and what is new in a list goes to its front. */}}
{{- define "crikpy.merge" -}}
{{- $into := .into -}}
{{- range $key, $value := .from -}}
  {{- $old := get $into $key -}}
  {{- if kindIs "invalid" $value -}}
    {{- $_ := unset $into $key -}}
  {{- else if and (kindIs "map" $value) (kindIs "map" $old) -}}
    {{- $_ := include "crikpy.merge" (dict "into" $old "from" $value) -}}
  {{- else if and $old (has $key (list "containers" "env" "volumes" "volumeMounts")) -}}
    {{- $by := ternary "mountPath" "name" (eq $key "volumeMounts") -}}
    {{- $fresh := list -}}
    {{- range $item := $value -}}
      {{- $same := list -}}
      {{- range $old }}{{ if eq (get . $by) (get $item $by) }}{{ $same = append $same . }}{{ end }}{{ end -}}
      {{- range $same }}{{ $_ := include "crikpy.merge" (dict "into" . "from" $item) }}{{ end -}}
      {{- if not $same }}{{ $fresh = append $fresh $item }}{{ end -}}
    {{- end -}}
    {{- $_ := set $into $key (concat $fresh $old) -}}
  {{- else -}}
    {{- $_ := set $into $key $value -}}
  {{- end -}}
{{- end -}}
{{- end -}}
