"""The command's entry point: its commands in one place, and what its exit codes mean."""

import sys

import typer

from client.cli.classifying import classify
from client.cli.datasets import datasets
from client.cli.demo import demo
from client.cli.doctor import doctor
from client.cli.local import up
from client.cli.models import models
from client.cli.options import Exit, errors, report
from client.cli.reproducing import reproduce
from client.cli.training import jobs, train
from client.embedded_redis import EmbeddedRedisError
from client.errors import RpcError
from client.local_stack import StackError

app = typer.Typer(
    name="weightcast",
    help="Train in one service, serve in another: data sets, jobs, versions, classification.",
    epilog="Exit codes: 0 done · 1 failed · 2 the request was wrong · 3 a service does not answer · 4 no such thing. "
    "Addresses come from --trainer and --inference, or WEIGHTCAST_TRAINER_ADDRESS and WEIGHTCAST_INFERENCE_ADDRESS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up)
app.command()(demo)
app.command()(train)
app.add_typer(jobs, name="jobs")
jobs.command()(reproduce)
app.add_typer(models, name="models")
app.add_typer(datasets, name="datasets")
app.command()(classify)
app.command()(doctor)


def main() -> None:
    """Runs the command; a service's refusal becomes a message and an exit code, not a traceback."""
    try:
        app()
    except RpcError as error:
        sys.exit(report(error))
    except (EmbeddedRedisError, StackError, OSError) as error:
        errors.print(str(error), style="red", highlight=False, markup=False)
        sys.exit(Exit.FAILED)
