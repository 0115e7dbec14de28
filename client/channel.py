"""How the client reaches a service: one channel, and retries only where the service says that it is safe."""

import json

import grpc

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
