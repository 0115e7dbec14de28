"""`weightcast up`: an embedded Redis and both services on this machine, until Ctrl-C."""

import signal
import threading
from typing import Annotated

import typer

from client.cli.options import INFERENCE, TRAINER, console
from client.local_stack import LocalStack

METRICS = "127.0.0.1:50053"


def up(
    trainer_listen: Annotated[
        str, typer.Option(envvar="WEIGHTCAST_TRAINER_LISTEN", help="The trainer's address.")
    ] = TRAINER,
    inference_listen: Annotated[
        str, typer.Option(envvar="WEIGHTCAST_INFERENCE_LISTEN", help="The inference service's address.")
    ] = INFERENCE,
    metrics_listen: Annotated[
        str, typer.Option(envvar="WEIGHTCAST_INFERENCE_METRICS_LISTEN", help="Where /metrics is; `off`: nowhere.")
    ] = METRICS,
) -> None:
    """Runs Redis, the trainer and the inference service here until Ctrl-C; what they hold is gone then."""
    listen = {
        "WEIGHTCAST_TRAINER_LISTEN": trainer_listen,
        "WEIGHTCAST_INFERENCE_LISTEN": inference_listen,
        "WEIGHTCAST_INFERENCE_METRICS_LISTEN": metrics_listen,
    }
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with LocalStack(listen, log_to_file=False) as stack:
        console.print(f"trainer    {stack.trainer.address}", highlight=False)
        console.print(f"inference  {stack.inference.address}", highlight=False)
        console.print("try: weightcast train --watch, then weightcast classify --dataset mnist; Ctrl-C stops all of it")
        while not stop.wait(0.5):
            stack.check()
        console.print("stopping")
