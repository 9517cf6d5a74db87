"""Traces: spans that are sent to an OpenTelemetry collector, if one is configured."""
