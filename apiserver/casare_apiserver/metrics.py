"""What does this server count? Prometheus metrics, served at /metrics."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
_REQUESTS = Counter(
    "casare_requests_total", "Requests of the resource API.", ["method", "resource", "code"], registry=REGISTRY
)
_SECONDS = Histogram(
    "casare_request_seconds", "Time to answer, watches and followed logs until they end.", ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5), registry=REGISTRY,
)
WATCHERS = Gauge("casare_watchers", "Open watches.", registry=REGISTRY)
LOG_POSITION = Gauge("casare_log_resource_version", "How far this server has read the change log.", registry=REGISTRY)


def request(method: str, resource: str, status: int, seconds: float) -> None:
    """Counts one request; only methods and kinds that exist become labels."""
    known = method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "other"
    counter, timer = _children(known, resource, status)
    counter.inc()
    timer.observe(seconds)


@cache
def _children(method: str, resource: str, status: int) -> tuple[Counter, Histogram]:
    """Looked up once: finding a child by its labels costs more than counting."""
    return _REQUESTS.labels(method, resource, str(status)), _SECONDS.labels(method)
