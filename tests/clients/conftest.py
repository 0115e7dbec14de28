"""What the tests of foreign clients share: the running product, of which they know an address and a folder of files.

They run where `tools/try_foreign_clients.py` runs them; anywhere else there is nothing here to collect.
"""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.clients.product import FOLDER, Product, read_product

OURS = {"shared", "client", "trainer_service", "inference_service"}

if FOLDER not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def product() -> Product:
    """The product that runs."""
    return read_product()


@pytest.fixture(scope="session", autouse=True)
def nothing_of_ours() -> Iterator[None]:
    """A stranger has none of our packages: no test may have imported one."""
    yield
    assert OURS.isdisjoint(sys.modules)
