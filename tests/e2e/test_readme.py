"""The README's commands, programs and tables are true: they are run, or compared with what they describe."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from client.local_stack import LocalStack
from shared.settings import InferenceSettings, Settings, TrainerSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMAND_SECONDS = 100


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in this language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def environment(stack: LocalStack) -> dict[str, str]:
    """What a reader's shell would have, with the services where this test runs them."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WEIGHTCAST_TRAINER_ADDRESS": stack.trainer.address,
        "WEIGHTCAST_INFERENCE_ADDRESS": stack.inference.address,
    }


def test_the_tour_runs_as_written(stack: LocalStack, tmp_path: Path) -> None:
    """Every `$ command` of the tour exits 0, in order, in one place."""
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 5
    for command in commands:
        result = subprocess.run(  # noqa: S602 - the README's own shell commands
            command,
            shell=True,
            cwd=tmp_path,
            env=environment(stack),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


def test_the_python_program_runs_as_written(stack: LocalStack) -> None:
    """The program trains, waits, classifies and prints its accuracy."""
    (program,) = blocks("python")
    addressed = program.replace("TrainerClient()", f"TrainerClient({stack.trainer.address!r})").replace(
        "InferenceClient()", f"InferenceClient({stack.inference.address!r})"
    )
    result = subprocess.run(
        [sys.executable, "-c", addressed], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"version \d+: 9\d\.\d% right\n", result.stdout)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)`", README))))
def test_make_targets_exist(target: str) -> None:
    """Every `make target` the README names is one."""
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


def test_links_lead_somewhere() -> None:
    """Every relative link names a file or folder that is there."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_settings_table_is_complete() -> None:
    """The table lists each setting with its default and its description, and nothing else."""
    rows = re.findall(r"^\| `(WEIGHTCAST_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    expected = []
    for who, kind in (("both", Settings), ("trainer", TrainerSettings), ("inference", InferenceSettings)):
        for name, setting in kind.model_fields.items():
            if kind is Settings or name not in Settings.model_fields:
                default = "" if setting.default is None else f"`{setting.default}`"
                expected.append((f"WEIGHTCAST_{name.upper()}", who, default, setting.description))
    assert rows == expected


def test_every_dependency_has_its_reason() -> None:
    """Each dependency of pyproject.toml stands in the table of dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        re.split(r"[>=;\[ ]", requirement)[0]
        for requirements in (project["dependencies"], *project["optional-dependencies"].values())
        for requirement in requirements
    } - {"weightcast"}
    table = README.split("## Dependencies")[1].split("## Decisions")[0]
    relatives = {name for name in wanted if name.startswith("types-grpcio-")}  # "types-grpcio and its relatives"
    assert {name for name in wanted - relatives if not re.search(rf"\b{re.escape(name)}\b", table)} == set()
