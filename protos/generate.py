"""Generates shared/pb from the schemas in this folder: messages, gRPC stubs and their types.

protoc writes imports that start at the schema root (`weightcast.v1`, `inference`); the generated code lives inside the
package `shared.pb`, so those imports are moved there. Run it with `make protos`.
"""

import argparse
import importlib.resources
import re
import shutil
import sys
from pathlib import Path

from grpc_tools import protoc

SCHEMAS = Path(__file__).parent
OUTPUT = SCHEMAS.parent / "shared" / "pb"
ROOTS = "|".join(sorted(path.name for path in SCHEMAS.iterdir() if any(path.rglob("*.proto"))))
SCHEMA_IMPORT = re.compile(rf"^(from|import) ({ROOTS})(?=[. ])", re.MULTILINE)


def run_protoc(output: Path, kinds: tuple[str, ...], pattern: str) -> None:
    """Runs the generators `kinds` over the schemas that match `pattern`; exits with protoc's status if it fails."""
    schemas = sorted(str(path) for path in SCHEMAS.rglob(pattern))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    plugins = [f"--{kind}_out={output}" for kind in kinds]
    if status := protoc.main(["protoc", f"-I{SCHEMAS}", f"-I{well_known}", *plugins, *schemas]):
        sys.exit(status)


def generate(output: Path) -> None:
    """Writes the generated package to `output`, replacing what is there; exits with protoc's status if it fails."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    run_protoc(output, kinds=("python", "mypy"), pattern="*.proto")
    run_protoc(output, kinds=("grpc_python", "mypy_grpc"), pattern="*_service.proto")
    for folder in (output, *(path for path in output.rglob("*") if path.is_dir())):
        (folder / "__init__.py").write_text("")
    for path in (*output.rglob("*.py"), *output.rglob("*.pyi")):
        path.write_text(SCHEMA_IMPORT.sub(r"\1 shared.pb.\2", path.read_text()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to write, default %(default)s")
    generate(parser.parse_args().output)
