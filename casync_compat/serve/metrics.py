"""What a server counts, and how Prometheus reads it (text format 0.0.4). No IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from casync_compat.serve.replies import Reply

__all__ = ["Metrics"]


_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"})


class Metrics:
    """Counters since the start. Used in the loop's thread only."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.hits: Counter[tuple[str, bool]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.running = 0

    def count(self, method: str, answer: Reply, sent: int, received: int, seconds: float) -> None:
        """Take in a request that is done.

        :param sent: bytes of the body that went out
        :param received: of the body that came in
        :param seconds: from its head to its end
        """
        store = answer.store
        if method not in _METHODS:
            method = "other"  # clients may choose any word, and each would be kept
        self.requests[method, store, answer.status] += 1
        self.sent[store] += sent
        self.seconds[store] += seconds  # type: ignore[assignment]  # a Counter takes any number
        if received:
            self.received[store] += received
        if answer.hit is not None:
            self.hits[store, answer.hit] += 1

    def text(self, gauges: Iterator[tuple[str, str, str, float]]) -> str:
        """All of it.

        :param gauges: what is known elsewhere: for each a name, what it is, the labels and the value
        """
        lines = [*self._told()]
        told: set[str] = set()
        for name, about, labels, value in gauges:
            if name not in told:
                told.add(name)
                kind = "counter" if name.endswith("_total") else "gauge"
                lines += [f"# HELP pycasync_{name} {about}", f"# TYPE pycasync_{name} {kind}"]
            lines.append(f"pycasync_{name}{labels} {value:.12g}")
        return "\n".join(lines) + "\n"

    def _told(self) -> Iterator[str]:
        yield from _head("requests_total", "Requests answered, by method, store and status.")
        for (method, store, status), count in sorted(self.requests.items()):
            yield f'pycasync_requests_total{{method="{method}",store="{store}",status="{status}"}} {count}'
        for name, about, counter in (
            ("sent_bytes_total", "Bytes of bodies sent.", self.sent),
            ("received_bytes_total", "Bytes of bodies received.", self.received),
            ("request_seconds_total", "Seconds that requests took.", self.seconds),
        ):
            yield from _head(name, about)
            for store, value in sorted(counter.items()):
                yield f'pycasync_{name}{{store="{store}"}} {value:.12g}'
        yield from _head("chunks_total", "Chunks given, by whether they lay near.")
        for (store, hit), count in sorted(self.hits.items()):
            yield f'pycasync_chunks_total{{store="{store}",hit="{str(hit).lower()}"}} {count}'


def _head(name: str, about: str) -> Iterator[str]:
    yield f"# HELP pycasync_{name} {about}"
    yield f"# TYPE pycasync_{name} counter"
