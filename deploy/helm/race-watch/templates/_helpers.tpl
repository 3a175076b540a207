{{- define "race-watch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "race-watch.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "race-watch.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "race-watch.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "race-watch.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "race-watch.podLabels" . }}
{{- end }}

{{/* Without the chart's version, which would restart every worker. */}}
{{- define "race-watch.podLabels" -}}
app.kubernetes.io/part-of: race-watch
{{ include "race-watch.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "race-watch.selector" -}}
app.kubernetes.io/name: {{ include "race-watch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "race-watch.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "race-watch.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "race-watch.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Inside the volume, whose root is open to all: race_watch makes it, private. */}}
{{- define "race-watch.runDir" -}}
/run/race-watch/journals
{{- end }}

{{/* What the watcher is told, wherever it runs. */}}
{{- define "race-watch.watcherEnv" -}}
- name: RACE_WATCH_METRICS_HOST
  value: {{ .Values.metrics.host | quote }}
- name: RACE_WATCH_METRICS_PORT
  value: {{ .Values.metrics.port | quote }}
{{- if .Values.metrics.token.secret }}
- name: RACE_WATCH_METRICS_TOKEN_FILE
  value: /etc/race-watch/token/{{ .Values.metrics.token.key }}
{{- end }}
{{- if .Values.metrics.tls.secret }}
- name: RACE_WATCH_METRICS_TLS_CERT
  value: /etc/race-watch/tls/tls.crt
- name: RACE_WATCH_METRICS_TLS_KEY
  value: /etc/race-watch/tls/tls.key
{{- end }}
{{- with .Values.otlp.endpoint }}
- name: RACE_WATCH_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: RACE_WATCH_OTLP_RESOURCE
  value: k8s.namespace.name=$(NAMESPACE),k8s.pod.name=$(POD),k8s.pod.uid=$(POD_UID)
{{- end }}
{{- with .Values.watcher.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "race-watch.watcherMounts" -}}
- name: race-watch-run
  mountPath: /run/race-watch
{{- if .Values.metrics.token.secret }}
- name: race-watch-token
  mountPath: /etc/race-watch/token
  readOnly: true
{{- end }}
{{- if .Values.metrics.tls.secret }}
- name: race-watch-tls
  mountPath: /etc/race-watch/tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "race-watch.port" -}}
- name: race-watch
  containerPort: {{ .Values.metrics.port }}
  protocol: TCP
{{- end }}

{{- define "race-watch.initContainers" -}}
{{- if eq .Values.route "inject" }}
- name: race-watch-inject
  image: {{ include "race-watch.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [cp, -r, /inject/., /opt/race-watch/]
  resources:
    {{- toYaml .Values.watcher.resources | nindent 4 }}
  securityContext:
    {{- include "race-watch.ownSecurityContext" . | nindent 4 }}
  volumeMounts:
    - name: race-watch-inject
      mountPath: /opt/race-watch
{{- end }}
{{- if ne .Values.route "run" }}
- name: race-watch
  image: {{ include "race-watch.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: [watch, --run-dir, {{ include "race-watch.runDir" . }}]
  env:
    {{- include "race-watch.watcherEnv" . | nindent 4 }}
  ports:
    {{- include "race-watch.port" . | nindent 4 }}
  livenessProbe:
    httpGet:
      path: /healthz
      port: race-watch
      {{- if .Values.metrics.tls.secret }}
      scheme: HTTPS
      {{- end }}
    periodSeconds: 30
    timeoutSeconds: 5
    failureThreshold: 4
  resources:
    {{- toYaml .Values.watcher.resources | nindent 4 }}
  securityContext:
    {{- include "race-watch.ownSecurityContext" . | nindent 4 }}
  volumeMounts:
    {{- include "race-watch.watcherMounts" . | nindent 4 }}
{{- end }}
{{- end }}

{{/* Not the worker's, which its operator may have to open. */}}
{{- define "race-watch.ownSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
