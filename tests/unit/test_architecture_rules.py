"""The house rules of the design, read from the source itself, so that a change that breaks one is seen at once."""

import ast
import re
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import trainer_service.__main__
from trainer_service import worker_supervisor

ROOT = Path(__file__).parents[2]
SERVICES = ("trainer_service", "inference_service")
PACKAGES = ("shared", *SERVICES, "client")
MAX_MODULE_LINES = 250
MAX_FUNCTION_LINES = 50
MAX_HOPS = 4
TRANSPORTS = {"grpc", "grpc_health", "grpc_reflection", "grpc_status", "redis", "rq"}
PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

# The modules between the domain and the outside. Everything else in shared and the services is domain.
ADAPTERS = {
    "shared.grpc_errors": "maps domain errors to gRPC statuses",
    "shared.grpc_server": "starts and stops a gRPC server",
    "shared.health": "what health checks answer",
    "shared.health_probe": "asks a server's gRPC health",
    "shared.manifest_codec": "domain values to messages and back",
    "shared.network_codec": "architectures and preprocessings to messages and back",
    "shared.verdict_codec": "verdicts about new versions to messages and back",
    "shared.rollout_codec": "rollouts to messages",
    "shared.spec_codec": "training specs and epochs to messages and back",
    "shared.proto_values": "moments, durations and tensors to messages and back",
    "shared.snapshot_codec": "snapshots to bytes and back",
    "shared.store.connection": "the connection to Redis",
    "shared.store.masters": "connections that find the master",
    "shared.store.keys": "the names of Redis keys",
    "shared.store.model_store": "versions in Redis",
    "shared.store.version_pages": "pages of versions in Redis",
    "trainer_service.__main__": "a composition root",
    "trainer_service.worker": "a composition root; rq's worker",
    "trainer_service.training_servicer": "the gRPC face of jobs",
    "trainer_service.dataset_servicer": "the gRPC face of data sets",
    "trainer_service.datasets.dataset_codec": "descriptions of data sets to messages and back",
    "trainer_service.datasets.upload_store": "uploaded data sets in Redis",
    "trainer_service.registry_codec": "models and versions to messages and back",
    "trainer_service.registry_change_servicer": "the gRPC face of what changes models",
    "trainer_service.registry_servicer": "the gRPC face of the registry",
    "trainer_service.spec_request": "what a client's message asks for, in the domain's words",
    "trainer_service.jobs.job_codec": "jobs to messages and back",
    "trainer_service.jobs.job_store": "jobs in Redis",
    "trainer_service.jobs.checkpoint_store": "checkpoints in Redis",
    "trainer_service.jobs.job_queue": "the queue in Redis, by rq",
    "trainer_service.schedules.schedule_codec": "schedules to messages and back",
    "trainer_service.schedules.schedule_store": "schedules in Redis",
    "trainer_service.schedules.schedule_servicer": "the gRPC face of schedules",
    "inference_service.__main__": "a composition root",
    "inference_service.classify_protocol": "Classify's bytes to questions, and answers to bytes",
    "inference_service.metrics.methods": "counts calls at grpcio's public interface",
    "inference_service.fast_calls": "calls that are answered in the polling thread",
    "inference_service.fast_streams": "calls with many requests, the same way",
    "inference_service.polling_loop": "grpcio's completion queue",
    "inference_service.model_status": "what is served as messages",
    "inference_service.refusing": "tells callers by a status why they are refused",
    "inference_service.public_methods": "the same methods by grpcio's public interface",
    "inference_service.servicer": "the gRPC face of inference",
    "inference_service.infer_protocol": "questions from the Open Inference Protocol's bytes",
    "inference_service.infer_reply": "answers to the Open Inference Protocol's bytes",
    "inference_service.open_inference_codec": "what is served as messages of the Open Inference Protocol",
    "inference_service.open_inference_servicer": "the gRPC face of the Open Inference Protocol",
}


def name_of(path: Path) -> str:
    """A file's module name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {
    name_of(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if not path.is_relative_to(ROOT / "shared" / "pb")  # generated
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in SOURCES.items()}


def imported_names(module: str) -> set[str]:
    """Every dotted name a module imports, anywhere in it; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def top_level(name: str) -> str:
    return name.partition(".")[0]


def modules_of(*packages: str) -> list[str]:
    return [module for module in SOURCES if top_level(module) in packages]


def imports_of(packages: tuple[str, ...], forbidden: set[str]) -> list[str]:
    """Each import from one of `packages` of something under a forbidden top-level name."""
    return [
        f"{module} imports {name}"
        for module in modules_of(*packages)
        for name in sorted(imported_names(module))
        if top_level(name) in forbidden
    ]


def calls(module: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call))


def test_the_source_is_where_these_rules_look_for_it() -> None:
    """Every package has modules, so no rule below passes because it looked at nothing."""
    assert [package for package in PACKAGES if len(modules_of(package)) < 5] == []


def test_the_services_never_import_each_other() -> None:
    """What passes between the two services passes through Redis and the contract."""
    assert imports_of(("trainer_service",), {"inference_service"}) == []
    assert imports_of(("inference_service",), {"trainer_service"}) == []


def test_shared_imports_no_service_and_no_client() -> None:
    """What is shared stands below both services."""
    assert imports_of(("shared",), {*SERVICES, "client"}) == []


def test_the_client_imports_no_service() -> None:
    """The client knows the services by their contract only."""
    assert imports_of(("client",), set(SERVICES)) == []


def test_the_services_import_no_client() -> None:
    """A service does not depend on who calls it."""
    assert imports_of(SERVICES, {"client"}) == []


def test_of_shared_the_client_imports_the_contract_only() -> None:
    """A client needs the generated code and nothing else of the servers."""
    offences = [
        f"{module} imports {name}"
        for module in modules_of("client")
        for name in sorted(imported_names(module))
        if top_level(name) == "shared" and not f"{name}.".startswith("shared.pb.")
    ]
    assert offences == []


def test_domain_modules_know_no_transport() -> None:
    """Only the adapters named above import grpc, redis, rq or generated code."""
    offences = [
        f"{module} imports {name}"
        for module in modules_of("shared", *SERVICES)
        if module not in ADAPTERS
        for name in sorted(imported_names(module))
        if top_level(name) in TRANSPORTS or "_pb2" in name
    ]
    assert offences == []


def test_only_the_store_knows_the_name_of_a_key() -> None:
    """A key's name is written in one module, so renaming or reading one needs no search."""
    offences = [
        f"{module}: {node.value!r}"
        for module in modules_of("shared", *SERVICES)
        if module != "shared.store.keys"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("weightcast:")
    ]
    assert offences == []


def test_no_servicer_ends_a_call_itself() -> None:
    """Errors are raised and mapped in one place; a servicer that aborts or sets a code would go past it."""
    offences = [
        f"{module}:{node.lineno} {node.attr}"
        for module in modules_of(*SERVICES)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute) and node.attr in {"abort", "abort_with_status", "set_code", "set_details"}
    ]
    assert offences == []


def test_modules_stay_short() -> None:
    """A module can be read at one sitting."""
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in SOURCES.items()}
    assert {module: lines for module, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


def test_functions_fit_on_a_screen() -> None:
    """A function can be seen whole."""
    long = {
        f"{module}.{node.name}": lines
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_nothing_is_pickled() -> None:
    """What comes out of Redis or a file can never run code: no pickler is imported and NumPy's is not asked for."""
    assert imports_of(PACKAGES, PICKLERS) == []
    offences = [
        f"{module}:{call.lineno}"
        for module in SOURCES
        for call in calls(module)
        if any(keyword.arg == "allow_pickle" for keyword in call.keywords)
    ]
    assert offences == []


def test_rq_is_always_told_to_write_json() -> None:
    """By default rq pickles; otherwise at each of its ends."""
    serializers = [
        next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "serializer"), "none")
        for module in modules_of("trainer_service")
        for call in calls(module)
        if isinstance(call.func, ast.Name) and call.func.id in {"Queue", "Worker", "TrainingWorker"}
    ]
    assert serializers
    assert set(serializers) == {"JSONSerializer"}


LAUNCHED = "trainer_service.worker"  # by the supervisor, in a process of its own


def test_the_supervisor_launches_the_worker() -> None:
    """What the path below takes for a hop is one."""
    assert LAUNCHED in worker_supervisor.COMMAND


def hops_from(start: str) -> dict[str, int]:
    """How many import or launch hops every reachable module of the product is away from `start`."""
    launched = {worker_supervisor.__name__: {LAUNCHED}}
    distances, waiting = {start: 0}, deque([start])
    while waiting:
        module = waiting.popleft()
        for name in imported_names(module) | launched.get(module, set()):
            if name in SOURCES and name not in distances:
                distances[name] = distances[module] + 1
                waiting.append(name)
    return distances


def test_the_arithmetic_is_at_most_four_hops_from_the_entry_point() -> None:
    """Who opens the trainer's composition root soon finds backpropagation."""
    assert hops_from("trainer_service.__main__")["trainer_service.training.backpropagation"] <= MAX_HOPS


def test_the_way_in_the_entry_points_docstring_is_true() -> None:
    """Each file it names is there, runs or imports the next, and the last holds the arithmetic."""
    files = re.findall(r"[\w/]+\.py", trainer_service.__main__.__doc__ or "")
    way = ["trainer_service." + file.removesuffix(".py").replace("/", ".") for file in files]
    assert len(way) <= MAX_HOPS
    assert way[0] == LAUNCHED  # what __main__ has started by the supervisor that it imports
    assert worker_supervisor.__name__ in imported_names("trainer_service.__main__")
    for module, following in pairwise(way):
        assert following in imported_names(module), f"{module} does not import {following}"
    assert way[-1] == "trainer_service.training.backpropagation"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is(package: str) -> None:
    """Each module begins with what it is and what it promises."""
    silent = [
        module for module in modules_of(package) if not ast.get_docstring(TREES[module]) and SOURCES[module].read_text()
    ]
    assert silent == []
