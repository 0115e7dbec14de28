"""The command `weightcast` as people and scripts use it: a process with output, messages and exit codes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from client.cli.app import app
from client.inference_client import InferenceClient
from client.local_stack import LocalStack
from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import training_pb2

COMMANDS = (
    *("", "up", "demo", "train", "jobs", "jobs list", "jobs show", "jobs watch", "jobs cancel", "models"),
    *("models list", "models versions", "models show", "models download", "classify", "doctor", "jobs reproduce"),
    *("models promote", "models rollback", "models hold", "models history", "models alias", "models diff"),
    *("models annotate", "models gc", "models rm", "jobs create", "jobs rm"),
    *("schedules", "schedules create", "schedules list", "schedules show", "schedules pause", "schedules resume"),
    *("schedules rm", "datasets", "datasets list", "datasets show", "datasets add", "datasets rm", "bench"),
    *("rollouts", "rollouts set", "rollouts show", "rollouts end", "rollouts promote"),
)
NOWHERE = ("--trainer", "127.0.0.1:1")
# conftest.py's Shell and Result, and what makes a shell; test folders are no packages to import them from.
Shell = Any
Result = Any
ShellFor = Callable[..., Any]
Spec = Callable[..., training_pb2.TrainingSpec]
Until = Callable[..., None]


@pytest.fixture(scope="module")
def job(stack: LocalStack) -> training_pb2.TrainingJob:
    """A job that has published version 1 of the model `digits`, which is served."""
    spec = training_pb2.TrainingSpec(model="digits", dataset="digits", epochs=20, seed=1)
    with TrainerClient(stack.trainer.address) as trainer, InferenceClient(stack.inference.address) as inference:
        done = trainer.wait(trainer.create_job(spec).id)
        inference.wait_for_version("digits", done.version, 10)
    return done


def test_every_command_explains_itself(shell: Shell) -> None:
    """--help exits 0 and says what the command does and how it is used; the first page says what exit codes mean."""
    runner = CliRunner(env={"COLUMNS": "200"})  # forty processes would take as long as all the rest
    for command in COMMANDS:
        page = runner.invoke(app, [*command.split(), "--help"], prog_name="weightcast")
        assert (page.exit_code, page.stderr) == (0, ""), command
        assert f"Usage: weightcast {command}".strip() in page.stdout
    page = shell("--help")
    assert page.code == 0
    assert "4 no such thing" in " ".join(page.out.split())


def test_doctor_says_what_is_missing_and_then_that_nothing_is(
    own_stack: Callable[..., LocalStack], shell: Shell
) -> None:
    """Exit 1 with a remedy while a model or a service is missing; exit 0 with the live version when all is there."""
    stack = own_stack()
    where = ("--trainer", stack.trainer.address, "--inference", stack.inference.address)
    before = shell("doctor", *where)
    assert before.code == 1
    assert "weightcast train" in before.out
    trained = shell("train", "--dataset", "digits", "--model", "digits", "--epochs", "1", "--watch", *where[:2])
    assert trained.code == 0, trained.err
    stack.inference.wait_until("")
    after = shell("doctor", "--json", *where).json()
    assert all(check["ok"] for check in after)
    assert "version 1 is served" in " ".join(check["found"] for check in after)
    stack.inference.stop()
    away = shell("doctor", *where)
    assert away.code == 1
    assert "python -m inference_service" in away.out
    assert "Traceback" not in away.err


def test_train_and_watch(shell: Shell) -> None:
    """Every epoch is a line, and the version that was published stands at the end."""
    result = shell("train", "--dataset", "digits", "--model", "watched", "--epochs", "3", "--seed", "1", "-w")
    assert result.code == 0, result.err
    for epoch in ("epoch 1/3", "epoch 2/3", "epoch 3/3"):
        assert epoch in result.out
    assert "published watched version 1" in result.out


def test_train_takes_every_part_of_a_spec(shell: Shell) -> None:
    """What the options say is what the job holds, and the same request id gives the same job."""
    options = "--dataset digits --model spec --hidden 12,8 --epochs 2 --batch-size 64 --optimizer sgd --seed 9 --json"
    arguments = [*options.split(), "--learning-rate", "0.5", "--request-id", "once"]
    first, second = shell("train", *arguments).json(), shell("train", *arguments).json()
    assert first["id"] == second["id"]
    spec = first["spec"]
    assert [layer["dense"]["units"] for layer in spec["layers"]] == [12, 8]
    assert (spec["epochs"], spec["batch_size"], spec["optimizer"]) == (2, 64, "OPTIMIZER_SGD")
    assert (spec["learning_rate"], spec["seed"]) == (0.5, "9")
    plain = shell(
        "train", "--dataset", "digits", "--model", "spec", "--hidden", "none", "--epochs", "1", "--json"
    ).json()
    assert plain["spec"]["layers"] == []


def test_jobs_are_listed_shown_watched_and_cancelled(
    shell: Shell, stack: LocalStack, job: training_pb2.TrainingJob, spec_of: Spec, until: Until
) -> None:
    """For people and as JSON; a job that ended cannot be cancelled, one that runs can, and watching it then exits 1."""
    assert job.id in shell("jobs", "list").out
    assert job.id in [listed["id"] for listed in shell("jobs", "list", "--json").json()]
    assert "published digits version 1" in shell("jobs", "show", job.id).out
    shown = shell("jobs", "show", job.id, "--json").json()
    assert (shown["state"], shown["version"], len(shown["epochs"])) == ("STATE_SUCCEEDED", "1", 20)
    assert "epoch 20/20" in shell("jobs", "watch", job.id).out
    shell("jobs", "cancel", job.id).refused(1, "JOB_ENDED", "SUCCEEDED")

    with TrainerClient(stack.trainer.address) as trainer:
        running = trainer.create_job(spec_of(epochs=1000, network={"hidden_layer_sizes": [1024, 512]})).id
        until(lambda: bool(trainer.job(running).epochs), "a first epoch")
        assert "next minibatch" in shell("jobs", "cancel", running).out
        watched = shell("jobs", "watch", running)
        assert watched.code == 1
        assert "CANCELLED" in watched.out


def test_ids_are_whole_in_a_narrow_terminal(shell: Shell, job: training_pb2.TrainingJob) -> None:
    """What a list shows can be copied into the next command, also in 80 columns and in a pipe."""
    assert job.id in shell("jobs", "list", width=None).out


def test_models_are_listed_shown_and_downloaded(shell: Shell, job: training_pb2.TrainingJob) -> None:
    """For people and as JSON; the file that is written is the published one."""
    assert "digits" in shell("models", "list").out
    assert "digits" in [model["name"] for model in shell("models", "list", "--json").json()]
    assert job.digest[:12] in shell("models", "versions", "digits").out
    (version,) = shell("models", "versions", "digits", "--json").json()
    assert (version["version"], version["digest"], version["aliases"]) == ("1", job.digest, ["latest", "live"])
    assert job.digest in shell("models", "show", "digits").out
    assert shell("models", "show", "digits", "--version", "1", "--json").json()["digest"] == job.digest
    result = shell("models", "download", "digits", "-o", "weights.safetensors")
    assert result.code == 0, result.err
    assert version["manifest"]["weights_digest"] in result.out
    shapes = {name: array.shape for name, array in load_file(shell.folder / "weights.safetensors").items()}
    assert shapes["dense_0.weight"] == (64, 256)


def test_files_and_data_sets_are_classified(shell: Shell, stack: LocalStack, job: training_pb2.TrainingJob) -> None:
    """PNG files of real digits get the classes that the service gives their pixels, and a data set its accuracy."""
    with TrainerClient(stack.trainer.address) as trainer, InferenceClient(stack.inference.address) as inference:
        examples, _ = trainer.examples("digits", 6)
        expected = inference.classify("digits", examples).labels
    names = [f"digit {index}.png" for index in range(6)]
    for name, pixels in zip(names, examples, strict=True):
        Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8)).save(shell.folder / name)
    answer = shell("classify", *names, "--model", "digits", "--json").json()
    assert answer["served_by"] == {"model": "digits", "version": 1, "digest": job.digest}
    assert [result["file"] for result in answer["results"]] == names
    assert [result["classes"][0]["label"] for result in answer["results"]] == expected
    assert [len(result["classes"]) for result in answer["results"]] == [3] * 6
    assert names[0] in shell("classify", *names, "--model", "digits", "--top-k", "1").out

    measured = shell("classify", "--dataset", "digits", "--model", "digits", "--json").json()
    assert (measured["examples"], measured["versions"]) == (360, [1])
    assert measured["accuracy"] == pytest.approx(job.epochs[-1].test_accuracy, abs=0.005)
    few = shell("classify", "--dataset", "digits", "--model", "digits", "--count", "50")
    assert "of 50 right" in few.out
    assert "Confusion matrix" in few.out


WRONG = {
    "a bad spec": (
        "train --dataset digits --model Bad_Name --epochs 0 --learning-rate -1 --hidden 1000000,8",
        2,
        ("INVALID_ARGUMENT", "spec.model", "spec.epochs", "spec.learning_rate", "hidden_layer_sizes[0]", "1 to 1000"),
    ),
    "hidden layers that are no numbers": ("train --hidden 12,b", 2, ("--hidden", "12,b", "512,256")),
    "an unknown optimizer": ("train --optimizer best", 2, ("--optimizer", "sgd")),
    "nothing to classify": ("classify", 2, ("--dataset",)),
    "a file that is not there": ("classify none.png --model digits", 2, ("none.png",)),
    "a file that is no image": ("classify text.png --model digits", 2, ("images.files[0]", "PNG or JPEG")),
    "an alias that is none": ("models show digits --version best", 4, ("ALIAS_NOT_FOUND", "latest, live")),
    "an unknown data set": ("train --dataset nope", 4, ("DATASET_NOT_FOUND", "nope", "digits, mnist")),
    "an unknown job": ("jobs show nope", 4, ("JOB_NOT_FOUND", "nope", "ListTrainingJobs")),
    "an unknown job to watch": ("jobs watch nope", 4, ("JOB_NOT_FOUND", "nope")),
    "an unknown job to cancel": ("jobs cancel nope", 4, ("JOB_NOT_FOUND", "nope")),
    "an unknown model": ("models versions nope", 4, ("MODEL_NOT_FOUND", "nope")),
    "an unknown model to classify": ("classify text.png --model nope", 4, ("MODEL_NOT_FOUND", "digits")),
    "an unknown version": ("models download digits --version 99", 4, ("VERSION_NOT_FOUND", "99", "latest is 1")),
    "no trainer": (f"jobs list {' '.join(NOWHERE)}", 3, ("UNAVAILABLE", "127.0.0.1:1", "weightcast up")),
    "no inference": ("classify text.png --inference 127.0.0.1:1", 3, ("UNAVAILABLE", "weightcast doctor")),
    "no trainer to watch": (f"jobs watch x {' '.join(NOWHERE)}", 3, ("UNAVAILABLE", "127.0.0.1:1")),
}
TRACEBACKS = {
    "epochs over 32 bits": ("train --dataset digits --epochs 99999999999", 2, ("epochs",)),
    "units over 32 bits": ("train --dataset digits --hidden 99999999999", 2, ("hidden",)),
    "a seed over 64 bits": ("train --dataset digits --seed 99999999999999999999", 2, ("seed",)),
    "a version over 64 bits": ("models show digits --version 99999999999999999999", 4, ("99999999999999999999",)),
    "a folder that is not there": ("models download digits -o none/file", 1, ("none/file",)),
}


@pytest.fixture(scope="module")
def wrong_results(
    stack: LocalStack,
    job: training_pb2.TrainingJob,
    shell_for: ShellFor,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Result]:
    """What each wrong command gave; run side by side, for each takes a process."""
    wrong_shell = shell_for(stack, tmp_path_factory.mktemp("wrong"))
    (wrong_shell.folder / "text.png").write_text("not a picture")
    commands = {**WRONG, **TRACEBACKS}
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda wrong: wrong_shell(*wrong[0].split()), commands.values())
        return dict(zip(commands, results, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_a_remedy_and_an_exit_code(wrong_results: dict[str, Result], name: str) -> None:
    """2 for a wrong request, 3 for a service that is away, 4 for what is not there; the message names it."""
    _, code, words = WRONG[name]
    wrong_results[name].refused(code, *words)


@pytest.mark.parametrize("name", TRACEBACKS)
def test_no_input_ends_in_a_traceback(wrong_results: dict[str, Result], name: str) -> None:
    """Numbers that no message holds and files that cannot be written are told as what they are."""
    _, code, words = TRACEBACKS[name]
    wrong_results[name].refused(code, *words)


def test_what_came_is_shown_as_it_came(shell: Shell) -> None:
    """Square brackets in a message are text."""
    shell("train", "--dataset", "digits", "--model", "[bold]x").refused(2, "[bold]x")


def test_the_demo_holds_on_digits(shell: Shell) -> None:
    """Exit code 0, and every promise of the verdict is kept."""
    result = shell("demo", "--dataset", "digits")
    assert result.code == 0, result.out + result.err
    assert "What held" in result.out
    assert "✗" not in result.out
    assert result.out.count("✓") >= 7


def test_bench_loads_the_service_and_says_what_it_saw(shell: Shell, job: training_pb2.TrainingJob) -> None:
    """Every request of an open loop is answered by the live version; what is no model or fails is said and exits so."""
    result = shell("bench", "digits", "--rate", "400", "--requests", "40", "--batch", "3", "--json").json()
    assert (result["answered"], result["failed"]) == (40, 0)
    assert result["versions"] == {str(job.version): 40}
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["max"]
    assert sum(moment["answered"] for moment in result["timeline"]) == 40
    shell("bench", "nosuch").refused(4, "nosuch")
    late = shell("bench", "digits", "--requests", "2000", "--timeout", "0.001", "--in-flight", "64")
    assert late.code in {1, 3}, late.err  # the first request, which must be answered, may be late already
    assert "DEADLINE_EXCEEDED" in late.out + late.err
