{{- /* Fails when the Prometheus operator's kinds are not there: called by each template that makes one of them. */}}
{{- define "strop.needsMonitoring" -}}
{{- if not (or .Values.metrics.skipApiCheck (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
{{- fail "\nmetrics.serviceMonitor, metrics.podMonitor and metrics.prometheusRule need the Prometheus operator, and this cluster does not know monitoring.coreos.com/v1. Install its CRDs first, or set their `enabled` to false: without it the pod's scrape annotations (metrics.annotations) and the rules in files/alerts/strop.yaml do the same. When rendering without a cluster, add --api-versions=monitoring.coreos.com/v1 or set metrics.skipApiCheck." -}}
{{- end -}}
{{- end -}}

{{- /* Metadata of one part: (list $ "name" .Values.metrics.part) */}}
{{- define "strop.monitoringMetadata" -}}
{{- $ := index . 0 }}{{ $part := index . 2 -}}
name: {{ index . 1 }}
namespace: {{ default $.Release.Namespace $part.namespace }}
labels:
  {{- include "strop.labels" $ | nindent 2 }}
  {{- with $part.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
