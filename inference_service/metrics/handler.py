"""What answers `GET /metrics`, and nothing else; prometheus_client writes the text in the format that is asked for."""

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from inference_service.metrics.collector import MetricsCollector
from inference_service.metrics.totals import Reading

PATH = "/metrics"


class PathHandler(MetricsHandler):
    """prometheus_client's handler, which answers under every path, for one."""

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        """The metrics."""
        if self._is_known():
            super().do_GET()

    def do_HEAD(self) -> None:  # noqa: N802 - the same
        """Whether there are any."""
        if self._is_known():
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
            self.end_headers()

    def _is_known(self) -> bool:
        is_known = urlsplit(self.path).path == PATH
        if not is_known:
            self.send_error(HTTPStatus.NOT_FOUND, f"only {PATH} is here")
        return is_known


def handler(read: Callable[[], Reading], processes: Callable[[], int]) -> type:
    """A handler that gives what `read` gives."""
    registry = CollectorRegistry()
    registry.register(MetricsCollector(read, processes))
    return PathHandler.factory(registry)
