"""The command's entry point: its commands in one place, and what its exit codes mean."""

import sys

import typer

from client.cli.bench import bench
from client.cli.classifying import classify
from client.cli.datasets import datasets
from client.cli.demo import demo
from client.cli.diffing import diff
from client.cli.doctor import doctor
from client.cli.jobs import jobs
from client.cli.keeping import annotate, gc, remove_versions
from client.cli.local import up
from client.cli.models import models
from client.cli.options import Exit, errors, report
from client.cli.promoting import alias, history, hold, promote, rollback
from client.cli.reproducing import reproduce
from client.cli.rollouts import rollouts
from client.cli.schedules import schedules
from client.cli.training import train
from client.embedded_redis import EmbeddedRedisError
from client.errors import RpcError
from client.local_stack import StackError

app = typer.Typer(
    name="weightcast",
    help="Train in one service, serve in another: data sets, jobs, schedules, versions, rollouts, classification.",
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
app.add_typer(schedules, name="schedules")
app.add_typer(models, name="models")
for command in (promote, rollback, hold, history, alias, diff, annotate, gc):
    models.command()(command)
models.command("rm")(remove_versions)
app.add_typer(rollouts, name="rollouts")
app.add_typer(datasets, name="datasets")
app.command()(classify)
app.command()(bench)
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
