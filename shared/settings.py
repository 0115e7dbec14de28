"""Settings from `WEIGHTCAST_…` environment variables, read once by a process's composition root.

One message lists every bad variable. The README's table is made from these fields and a test compares them.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.store.address import parse as parse_redis_url

SettingsType = TypeVar("SettingsType", bound="Settings")
LARGEST_PORT = 65535
OFF = "off"
ADDRESS = r"(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}"


def _listen_address(address: str) -> str:
    """Refuses what pydantic's pattern cannot: a port that is too large."""
    if address != OFF and int(address.rpartition(":")[2]) > LARGEST_PORT:
        raise ValueError(f"expected a port of at most {LARGEST_PORT}")
    return address


def _redis_url(url: str) -> str:
    """Refuses what the client could not connect with; says nothing of what it holds, for that may be a password."""
    parse_redis_url(url)
    return url


ListenAddress = Annotated[str, StringConstraints(pattern=f"^{ADDRESS}$"), AfterValidator(_listen_address)]
AddressOrOff = Annotated[str, StringConstraints(pattern=f"^({OFF}|{ADDRESS})$"), AfterValidator(_listen_address)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
SECRETS = ("redis_url",)


class Settings(BaseSettings):
    """What every process of the product may be told."""

    model_config = SettingsConfigDict(env_prefix="WEIGHTCAST_", extra="ignore", env_ignore_empty=True)

    redis_url: RedisUrl = Field("redis://127.0.0.1:6379/0", description="Where Redis is; may carry a password.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least level logged.")
    port_file: Path | None = Field(
        None, description="A file to write the port to once the server listens, for whoever asked for port 0."
    )
    shutdown_grace_seconds: float = Field(
        10.0, ge=0, le=3600, description="How long accepted requests may take to finish after SIGTERM."
    )


class TrainerSettings(Settings):
    """What the trainer service and its workers may be told."""

    trainer_listen: ListenAddress = Field("127.0.0.1:50051", description="The trainer's address; port 0 picks one.")
    trainer_workers: int = Field(1, ge=0, le=64, description="Training worker processes to run; 0 means API only.")
    trainer_threads: int = Field(
        1, ge=1, le=256, description="Threads a worker trains with; more help only on cores of their own."
    )
    trainer_max_jobs: int = Field(
        1000, ge=1, le=100_000, description="Jobs that may wait or run at the same time; more are refused."
    )
    trainer_keep_jobs: int = Field(10_000, ge=1, le=1_000_000, description="Jobs kept after they have ended.")
    trainer_keep_job_days: float = Field(
        90.0, gt=0, le=36_500, description="How long a job is kept after it has ended, in days."
    )
    trainer_keep_versions: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Newest versions kept of a model, besides those live, just before, aliased or pinned; 0: all.",
    )
    data_dir: Path | None = Field(
        None, description="Folder of data sets (`mnist/` holds the four IDX `.gz` files); unset means download."
    )
    cache_dir: Path = Field(
        Path("~/.cache/weightcast"), description="Where downloaded data sets are kept.", validate_default=True
    )


class InferenceSettings(Settings):
    """What the inference service may be told."""

    inference_listen: ListenAddress = Field("127.0.0.1:50052", description="The service's address; port 0 picks one.")
    inference_processes: int = Field(
        1, ge=1, le=64, description="Processes that answer on the one port; more than cores help nobody."
    )
    inference_threads: int = Field(8, ge=1, le=256, description="Requests a process answers at the same time.")
    inference_max_batch_rows: int = Field(10_000, ge=1, le=1_000_000, description="Most rows one request may have.")
    inference_max_message_bytes: int = Field(
        32 * 2**20, ge=2**16, le=2**30, description="Largest request accepted, in bytes."
    )
    inference_max_waiting_bytes: int = Field(
        256 * 2**20,
        ge=2**16,
        le=2**40,
        description="Most bytes of requests that may wait for a thread; more are refused.",
    )
    inference_polling: Literal["auto", "public"] = Field(
        "auto", description="`public`: never use grpcio's private interface, which is several times as fast."
    )
    inference_max_in_flight: int = Field(
        256, ge=1, le=100_000, description="Requests a process has in work at the same time; more are refused."
    )
    inference_max_connection_calls: int = Field(
        64, ge=1, le=100_000, description="Calls that a connection may have under way; more wait in the client."
    )
    inference_drain_seconds: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="After SIGTERM, how long requests are still taken while they keep coming; then those taken finish.",
    )
    inference_pinned_bytes: int = Field(
        256 * 2**20,
        ge=0,
        le=2**40,
        description="Memory for versions that are loaded, besides `live` and candidates, because requests named them.",
    )
    inference_snapshot_dir: Path | None = Field(
        None, description="A folder that keeps the live version of each model, for starts without Redis; unset: none."
    )
    inference_metrics_listen: AddressOrOff = Field(
        "127.0.0.1:50053", description="Where `/metrics` is; port 0 picks one, `off` is nowhere."
    )
    metrics_port_file: Path | None = Field(None, description="As `WEIGHTCAST_PORT_FILE`, for the port of `/metrics`.")
    inference_reconcile_seconds: float = Field(
        2.0, ge=0.1, le=60, description="How often the store is compared with what is served, events or not."
    )


def load(kind: type[SettingsType]) -> SettingsType:
    """The settings of this process; ends it with status 2 and one message that lists every bad variable."""
    try:
        return kind()
    except ValidationError as error:
        lines = [
            f"  WEIGHTCAST_{name.upper()}: {fault['msg']}" + ("" if name in SECRETS else f" (got {fault['input']!r})")
            for fault in error.errors()
            for name in map(str, fault["loc"])
        ]
        print("These settings cannot be used:", *lines, sep="\n", file=sys.stderr)  # noqa: T201 - logs need settings
        sys.exit(2)
