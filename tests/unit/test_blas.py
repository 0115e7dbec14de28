"""The choice of a BLAS kernel: when it is made, what it is checked by, and that what fails the check is not used."""

import os
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest

from shared import blas
from shared.blas import CHECKED, CORETYPE, WANTED, decide

AVX512 = "fpu sse2 avx avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16"


def cpu(vendor: str = "AuthenticAMD", flags: str = AVX512) -> str:
    """/proc/cpuinfo of a machine with two of these."""
    one = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: a: b\nflags\t\t: {flags}\nbugs\t\t: none\n\n"
    return one + one.replace(": 0", ": 1")


class Probed:
    """Answers a probe with `own` where no kernel is asked for and `forced` where one is, and keeps what was asked."""

    def __init__(self, own: str | None = "Haswell", forced: str | None = WANTED) -> None:
        self._own, self._forced = own, forced
        self.asked: list[str | None] = []

    def __call__(self, environment: Mapping[str, str]) -> str | None:
        """As `blas.probe`, without a process."""
        self.asked.append(environment.get(CORETYPE))
        return self._forced if CORETYPE in environment else self._own


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "HygonGenuine"])
@pytest.mark.parametrize("own", ["Haswell", "Zen", "Prescott", None])
def test_a_cpu_taken_for_less_gets_the_wider_kernel(vendor: str, own: str | None) -> None:
    """Where OpenBLAS by itself runs a kernel without AVX-512, or one that fails, and the wider one passes its check."""
    environment = {"PATH": "/bin"}
    probe = Probed(own)
    assert decide(cpu(vendor), environment, probe) == WANTED
    assert environment == {"PATH": "/bin", CORETYPE: WANTED, CHECKED: "1"}
    assert probe.asked == [None, WANTED]


@pytest.mark.parametrize("forced", [None, "Haswell", "", "unknown"])
def test_a_kernel_that_fails_its_check_is_not_used(forced: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Crash, wrong product or another kernel than was asked for: OpenBLAS keeps its own choice, and the log says so."""
    environment: dict[str, str] = {}
    assert decide(cpu(), environment, Probed(forced=forced)) is None
    assert CORETYPE not in environment
    assert "did not pass its check" in caplog.text


@pytest.mark.parametrize("own", ["SkylakeX", "Cooperlake", "SapphireRapids", "unknown"])
def test_a_good_choice_of_openblas_and_another_blas_are_left_alone(own: str) -> None:
    """Nothing is set where AVX-512 is used already, nor where there is no OpenBLAS to tell."""
    environment: dict[str, str] = {}
    probe = Probed(own)
    assert decide(cpu(), environment, probe) is None
    assert CORETYPE not in environment
    assert probe.asked == [None]


@pytest.mark.parametrize("value", ["Haswell", "SkylakeX", ""])
def test_the_operators_setting_wins(value: str) -> None:
    """Whatever it is: no child process is run and nothing is changed."""
    environment = {CORETYPE: value}
    probe = Probed()
    assert decide(cpu(), environment, probe) is None
    assert environment == {CORETYPE: value}
    assert probe.asked == []


@pytest.mark.parametrize("missing", ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"])
def test_a_cpu_that_lacks_any_needed_instruction_is_not_probed(missing: str) -> None:
    """All five are needed; avx512_bf16 beside them stands for none of them."""
    environment: dict[str, str] = {}
    probe = Probed()
    assert decide(cpu(flags=AVX512.replace(missing, "")), environment, probe) is None
    assert (environment, probe.asked) == ({}, [])


@pytest.mark.parametrize(
    "cpuinfo", [cpu("GenuineIntel"), "", "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n"]
)
def test_intel_and_other_architectures_are_left_alone(cpuinfo: str) -> None:
    """OpenBLAS tells Intel's CPUs by what they can do; another architecture has none of these kernels."""
    probe = Probed()
    assert decide(cpuinfo, {}, probe) is None
    assert probe.asked == []


@pytest.mark.parametrize("probe", [Probed(), Probed(own="SkylakeX"), Probed(forced=None)])
def test_child_processes_do_not_check_again(probe: Probed) -> None:
    """A worker inherits the environment, whatever was decided, and runs no probe of its own."""
    environment: dict[str, str] = {}
    decide(cpu(), environment, probe)
    inherited = dict(environment)
    again = Probed()
    assert decide(cpu(), inherited, again) is None
    assert again.asked == []
    assert inherited == environment


def test_the_probe_names_the_kernel_that_ran() -> None:
    """A real child process computes the products and names the kernel that this process runs too."""
    assert blas.probe(os.environ) == blas.running_kernel()


@pytest.mark.parametrize(
    "program",
    [
        "import os, signal; print('SkylakeX', flush=True); os.kill(os.getpid(), signal.SIGILL)",
        "print('SkylakeX', flush=True); raise SystemExit(1)",
        "pass",
    ],
)
def test_a_child_that_dies_or_says_nothing_proves_nothing(program: str) -> None:
    """An illegal instruction, a wrong product, no name: none is taken for a pass."""
    assert blas.probe(os.environ, (sys.executable, "-c", program)) is None


def test_a_child_that_hangs_or_cannot_start_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended after a time, and the service starts all the same."""
    assert blas.probe(os.environ, ("/nowhere/python",)) is None
    monkeypatch.setattr(blas, "PROBE_SECONDS", 0.2)
    assert (
        blas.probe(os.environ, (sys.executable, "-c", "import time; print('SkylakeX', flush=True); time.sleep(60)"))
        is None
    )


def test_the_products_of_this_machine_are_right() -> None:
    """With the kernel that runs here."""
    assert blas.check_products()


@pytest.mark.parametrize("wrong", ["last element", "one product of many", "float64 only"])
def test_one_wrong_number_fails_the_check(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """A child whose products differ in a single element ends as failed."""
    equal = np.array_equal
    calls = []

    def compared(computed: np.ndarray, expected: np.ndarray) -> bool:
        calls.append(computed.shape)
        spoiled = {
            "last element": computed.size > 1,
            "one product of many": len(calls) == 77,
            "float64 only": computed.dtype == np.float64,
        }[wrong]
        if spoiled:
            computed.flat[-1] += 1
        return equal(computed, expected)

    monkeypatch.setattr(np, "array_equal", compared)
    assert not blas.check_products()


def test_every_sum_in_the_check_is_exact_in_float32() -> None:
    """Values up to 8, so a sum over the longest inner dimension stays below 2^24 in whatever order."""
    assert max(inner for _, inner, _ in blas.SIZES) * 8 * 8 < 2**24


def in_a_process_of_its_own(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)


def test_the_choice_is_made_before_numpy_is_loaded() -> None:
    """In a new process the choice itself loads no NumPy, and NumPy then runs what was chosen."""
    program = (
        "import os, sys; before = dict(os.environ); from shared import blas\n"
        "chosen = blas.choose_kernel()\n"
        "assert 'numpy' not in sys.modules\n"
        f"assert chosen is None or {CORETYPE!r} not in before\n"
        f"assert os.environ.get({CORETYPE!r}) == (chosen or before.get({CORETYPE!r}))\n"
        "assert chosen in (None, blas.running_kernel()), (chosen, blas.running_kernel())\n"
    )
    assert in_a_process_of_its_own(program).stderr == ""


def test_too_late_is_said_and_changes_nothing() -> None:
    """With NumPy loaded the variable would only mislead whoever reads it."""
    program = (
        "import os, numpy; before = dict(os.environ); from shared import blas\n"
        "assert blas.choose_kernel() is None\n"
        "assert dict(os.environ) == before\n"
    )
    assert "NumPy is loaded already" in in_a_process_of_its_own(program).stderr
