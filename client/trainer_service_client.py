"""What the parts of a trainer's client share: one channel, the stubs of both its services, and how lists are paged."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from client.channel import ServiceClient
from client.errors import rpc_errors
from shared.pb.weightcast.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from shared.pb.weightcast.v1.trainer_service_pb2_grpc import TrainerServiceStub

LARGEST_PAGE = 200


class ListRequest(Protocol):
    """What every request for a list has."""

    page_size: int
    page_token: str


class ListResponse(Protocol):
    """What every page of a list has."""

    @property
    def next_page_token(self) -> str:
        """Where the next page begins; empty when this is the last."""


Request = TypeVar("Request", bound=ListRequest)
Response = TypeVar("Response", bound=ListResponse)


class TrainerServiceClient(ServiceClient):
    """A channel to one trainer service, and the stubs of what it serves."""

    def __init__(self, address: str = "127.0.0.1:50051", *, timeout: float = 30.0) -> None:
        super().__init__(address, timeout=timeout, retry=True)
        self.stub = TrainerServiceStub(self._channel)
        self.registry = ModelRegistryServiceStub(self._channel)


def pages(call: Callable[[Request], Response], request: Request, limit: int | None = None) -> Iterator[Response]:
    """Every page of a list, each asked for when it is wanted; `limit` is how many entries are wanted in all.

    A page may be empty and not be the last, so only its token says whether another one follows.
    """
    request.page_size = LARGEST_PAGE if limit is None else max(1, min(limit, LARGEST_PAGE))
    while True:
        with rpc_errors():
            page = call(request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
