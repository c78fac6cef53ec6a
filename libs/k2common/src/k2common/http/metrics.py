"""Metrics of every service's HTTP side."""

from __future__ import annotations

from k2common.observability.metrics import SECONDS, CollectorRegistry, Declarations, Label

ROUTE = Label(name="route", bound="the service's routes as templates, and `unmatched`")
STATUS = Label(
    name="status",
    bound="HTTP status codes; 499 for a client that left before; 0 for a request that was cut off",
)


class RequestMetrics:
    """Requests by route; a route is its template, never the path that was asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Declarations(registry)
        self.answered = made.counter(
            "k2_http_requests_answered",
            "Requests answered.",
            look="Errors are statuses of 500 and more; 401, 403 and 429 say who is kept out.",
            labels=[ROUTE, STATUS],
        )
        self.seconds = made.histogram(
            "k2_http_requests_answered_seconds",
            "Time from a request to the last byte of its answer.",
            look="How long clients wait, by endpoint. Streams take as long as their reader.",
            buckets=SECONDS,
            labels=[ROUTE],
        )
        self.bytes = made.counter(
            "k2_http_requests_answered_bytes",
            "Bytes of bodies sent, packed where the client takes that.",
            look="What goes out, by endpoint.",
            labels=[ROUTE],
        )
        self.running = made.gauge(
            "k2_http_requests_running",
            "Requests that are being answered.",
            look="Stays up: clients that read slowly, or a dependency that does not answer.",
        )
        self.keys_left = made.scraped(
            "k2_keys_used_left_seconds",
            "Time until the first of the keys ends that have an end and were used since the start; absent "
            "without such a key.",
            look="Falls under days: somebody still uses a key that was rotated.",
        )
        self.declared = made.all
