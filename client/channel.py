"""How a client reaches a service: one channel, and retries only where the service says that it is safe."""

import json
from types import TracebackType
from typing import Self

import grpc

from shared.pb.weightcast.v1.inference_service_pb2 import ClassifyRequest
from shared.pb.weightcast.v1.model_registry_service_pb2 import DownloadModelVersionRequest, GetModelVersionRequest

SelectingRequest = ClassifyRequest | GetModelVersionRequest | DownloadModelVersionRequest
MAX_MESSAGE_BYTES = 64 * 2**20
# Every method may be sent again: those that create something carry a request_id.
RETRY_POLICY = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def open_channel(address: str, *, retry: bool = True) -> grpc.Channel:
    """A channel to `host:port`. It connects with its first call."""
    # A proxy in the environment is for the way out; the way to this machine itself does not lead through it.
    is_local = address.startswith(("127.", "localhost:", "[::1]:", "unix:"))
    options: list[tuple[str, str | int]] = [
        ("grpc.enable_http_proxy", int(not is_local)),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ]
    if retry:
        options.append(("grpc.service_config", json.dumps(RETRY_POLICY)))
    else:
        options.append(("grpc.enable_retries", 0))
    return grpc.insecure_channel(address, options=options)


class ServiceClient:
    """What the clients of both services are: a channel, a deadline in seconds for each call, and an end."""

    def __init__(self, address: str, *, timeout: float, retry: bool) -> None:
        self._channel = open_channel(address, retry=retry)
        self._timeout = timeout

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def select(request: SelectingRequest, version: int | str | None) -> None:
    """Writes which version a request means: a number, an alias, or with None what is live."""
    if isinstance(version, int):
        request.version = version
    elif version is not None:
        request.alias = version
