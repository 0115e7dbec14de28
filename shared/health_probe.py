"""Asks a service's health check once, for container health checks and scripts: `python -m shared.health_probe ADDRESS`.

Ends with 0 if the answer is SERVING; otherwise with 1 and one line that says why.
"""

import argparse
import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub


def why_not_serving(address: str, service: str, seconds: float) -> str | None:
    """None if the health check named `service` says SERVING within `seconds`, otherwise what it said instead."""
    # A proxy in the environment is for the way out; the way to a service asked for by address does not lead through it.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = HealthStub(channel).Check(  # type: ignore[attr-defined]
                HealthCheckRequest(service=service), timeout=seconds
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return f"{address} has no health check named {service!r}"
            return f"{address} gave no answer: {error.code().name}: {error.details()}"
    if answer.status == HealthCheckResponse.SERVING:
        return None
    return f"{address} says {HealthCheckResponse.ServingStatus.Name(answer.status)} for {service!r}"


def main() -> None:
    """Reads the command line, asks, and ends the process."""
    parser = argparse.ArgumentParser(prog="python -m shared.health_probe", description=__doc__)
    parser.add_argument("address", metavar="ADDRESS", help="host:port")
    parser.add_argument(
        "--service",
        default="",
        metavar="NAME",
        help="`liveness`: the process runs; `models/MODEL`: that model can answer; without it, readiness: "
        "the trainer reaches Redis, the inference service has a model that can answer",
    )
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="how long to wait (%(default)s)")
    arguments = parser.parse_args()
    sys.exit(why_not_serving(arguments.address, arguments.service, arguments.timeout))


if __name__ == "__main__":
    main()
