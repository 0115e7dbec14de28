"""Which OpenBLAS kernel NumPy's matrix products run on: chosen before NumPy is loaded, and only after a check.

OpenBLAS goes by the CPU's model, and an OpenBLAS older than the model may run kernels without AVX-512 on a CPU that has
it. Where that happens on a CPU of AMD or Hygon, `choose_kernel` asks for the AVX-512 kernels by `OPENBLAS_CORETYPE`.
Intel's CPUs are left alone: OpenBLAS itself goes by what those can do. An operator who sets `OPENBLAS_CORETYPE`, if
only to nothing, has decided, and then nothing is run or changed.

Promises: a kernel is set only after a child process has computed products with it that are right to the bit; a crash,
a wrong product or no answer leaves OpenBLAS its own choice. Child processes inherit the outcome and check nothing
again. Importing this module loads no NumPy.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

from threadpoolctl import threadpool_info

CORETYPE = "OPENBLAS_CORETYPE"
CHECKED = "WEIGHTCAST_BLAS_KERNEL_CHECKED"
WANTED = "SkylakeX"
AVX512_KERNELS = {"SkylakeX", "Cooperlake", "SapphireRapids"}
NEEDED_FLAGS = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
VENDORS = {"AuthenticAMD", "HygonGenuine"}
UNKNOWN = "unknown"
PROBE_SECONDS = 30.0  # a hundred times what it takes; a machine under load may be slow
# Rows, inner and columns of the products that are checked: small ones, which have kernels of their own, odd ones, whose
# edges do, a vector, and some large enough to be cut into blocks.
SIZES = ((1, 1, 1), (3, 5, 7), (1, 300, 9), (17, 33, 1), (31, 64, 17), (64, 64, 64), (131, 259, 67), (40, 784, 70))
log = logging.getLogger(__name__)

Probe = Callable[[Mapping[str, str]], str | None]


def choose_kernel() -> str | None:
    """Sets this process's kernel where OpenBLAS would use a slower one; the first thing a process calls.

    Returns the kernel set, or None where OpenBLAS, the operator or a parent process chooses. Once NumPy is loaded it is
    too late: then this changes nothing, logs a warning and returns None.
    """
    if "numpy" in sys.modules:
        log.warning("NumPy is loaded already, so its kernel stays; choose_kernel() must be called before")
        return None
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # no Linux
    return decide(cpuinfo, os.environ, probe)


def decide(cpuinfo: str, environment: MutableMapping[str, str], probe: Probe) -> str | None:
    """The kernel that `environment` is told to use, or None if it is left as it is but for the mark of the check.

    `probe` says which kernel computes rightly in a given environment, None if none does.
    """
    if CORETYPE in environment or CHECKED in environment or not _may_be_taken_for_less(cpuinfo):
        return None
    environment[CHECKED] = "1"
    own = probe(environment)
    if own in {*AVX512_KERNELS, UNKNOWN}:
        return None
    if own is None:
        log.warning("the check of NumPy's matrix products failed with OpenBLAS's own choice of kernel")
    if probe({**environment, CORETYPE: WANTED}) != WANTED:
        log.warning("the %s kernel did not pass its check; OpenBLAS chooses itself", WANTED)
        return None
    environment[CORETYPE] = WANTED
    return WANTED


def _may_be_taken_for_less(cpuinfo: str) -> bool:
    """Whether this is a CPU with AVX-512 whose model OpenBLAS must know to use it; from /proc/cpuinfo's first CPU."""
    fields = dict[str, str]()
    for line in cpuinfo.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields.get("vendor_id") in VENDORS and NEEDED_FLAGS.issubset(fields.get("flags", "").split())


def probe(environment: Mapping[str, str], command: tuple[str, ...] = ()) -> str | None:
    """The kernel that a child process in `environment` ran and found right; None if it crashed, hung or was wrong."""
    # -P: the folder of this file is none to import from.
    command = command or (sys.executable, "-P", __file__)
    try:
        child = subprocess.run(  # noqa: S603 - our own program
            command,
            env={**environment, "OPENBLAS_NUM_THREADS": "1"},  # the kernel is the same, and idle threads cost time
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return child.stdout.decode(errors="replace").strip() or None if child.returncode == 0 else None


def check_products() -> bool:
    """Whether products of whole numbers in float32 and float64 are those of int64, to the bit, however laid out.

    Every sum stays below 2^24, so no order of summation may round.
    """
    import numpy as np  # noqa: PLC0415 - this module is imported before NumPy may be loaded

    rng = np.random.default_rng(0)
    for rows, inner, columns in SIZES:
        left, right = rng.integers(-8, 9, (rows, inner)), rng.integers(-8, 9, (inner, columns))
        product, square = left @ right, left @ left.T  # int64, which BLAS does not know
        for dtype in ("float32", "float64"):
            first, second = left.astype(dtype), right.astype(dtype)
            for a in (first, np.asfortranarray(first)):
                if not np.array_equal(a @ a.T, square):
                    return False
                for b in (second, np.asfortranarray(second)):
                    if not np.array_equal(a @ b, product):
                        return False
    return True


def running_kernel() -> str:
    """The kernel of the OpenBLAS that NumPy uses, such as "Haswell"; "unknown" with another BLAS. Loads NumPy."""
    import numpy as np  # noqa: F401, PLC0415 - as above

    found = [library for library in threadpool_info() if library["internal_api"] == "openblas"]
    # SciPy brings an OpenBLAS of its own; NumPy's is in numpy.libs or numpy/.dylibs, unless both use the system's.
    found.sort(key=lambda library: "numpy" not in "/".join(Path(library["filepath"]).parts[-3:-1]))
    return str(found[0].get("architecture", UNKNOWN)) if found else UNKNOWN


if __name__ == "__main__":
    if not check_products():
        sys.exit(1)
    sys.stdout.write(running_kernel())
