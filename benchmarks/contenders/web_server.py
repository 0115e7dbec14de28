"""FastAPI as a peer: the same network behind HTTP/1.1, rows as raw float32 bytes in, probabilities as raw bytes out.

Run by the Python that WEB_PYTHON names, with fastapi, uvicorn, uvloop and httptools installed; no JSON, no validation.
"""

import asyncio
import contextlib
import socket

import numpy as np
import uvicorn  # type: ignore[import-not-found]
from fastapi import FastAPI, Request, Response  # type: ignore[import-not-found]

from benchmarks.contenders.plain_forward import own_forward, tell_port

INPUTS = 784
app = FastAPI()
forward = own_forward()


@app.post("/classify")  # type: ignore[untyped-decorator]
async def classify(request: Request) -> Response:
    """Every class's probability, row by row."""
    rows = np.frombuffer(await request.body(), np.float32).reshape(-1, INPUTS)
    return Response(forward.probabilities(rows).tobytes(), media_type="application/octet-stream")


async def main() -> None:
    """Serves until it is ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    # What uvicorn does on sockets of its own; accepted ones inherit it. Without it every answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(ModuleNotFoundError):  # threadpoolctl is not among what this server needs
        from shared.blas import running_kernel  # noqa: PLC0415 - as the line above says

        print(f"blas_kernel={running_kernel()}", flush=True)
    tell_port(listener.getsockname()[1])
    config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
