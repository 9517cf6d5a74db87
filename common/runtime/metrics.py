"""The Prometheus metrics of all services; a label is never a path, an id or an owner."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# from a millisecond to the longest time an inference service may take
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

requests = Histogram(
    "darkroom_http_request_seconds", "Requests by route template", ["method", "route", "status"], buckets=_SECONDS
)
websockets = Gauge("darkroom_websockets", "Open websockets")
events_shown = Counter("darkroom_events_shown_total", "Events read from the log and sent to clients", ["type"])
attempts = Counter(
    "darkroom_attempts_total", "Attempts by outcome, pool and inference service", ["outcome", "pool", "backend"]
)
painting = Histogram("darkroom_painting_seconds", "From the claim to the stored picture", ["pool"], buckets=_SECONDS)
circuit_open = Gauge(
    "darkroom_circuit_open", "1 while an inference service gets no work because it is down", ["backend"]
)
backend_jobs = Gauge("darkroom_backend_jobs", "Images that an inference service has from this generator", ["backend"])
reconciled = Counter("darkroom_reconciled_total", "Records repaired after a fault, by action", ["what"])
events_refused = Counter(
    "darkroom_events_refused_total", "Events that a queue of another service refused; the event log has them"
)
skipped = Counter("darkroom_skipped_records_total", "Records left out or not repaired, by the part that did so", ["by"])
purged = Counter("darkroom_purged_total", "Images purged")
webhook_tries = Counter("darkroom_webhook_tries_total", "Tries of webhooks by the class of the answer", ["outcome"])
webhooks_ended = Counter("darkroom_webhooks_total", "Webhooks that have ended, by their state", ["state"])
webhooks_in_flight = Gauge("darkroom_webhooks_in_flight", "Webhooks that are being sent")
clock_ahead = Gauge("darkroom_clock_ahead_seconds", "How far the janitor's clock is ahead of the bus's")
drift = Gauge("darkroom_drift", "Differences between files and records found by the last sweep", ["what"])
