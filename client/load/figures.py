"""What a load test measured: exact percentiles of all latencies, counts by version and by what went wrong.

Every latency is kept, four bytes each, and none is put into a bucket; figures of several processes add up.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Latencies = npt.NDArray[np.float32]
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
MOST_CORRECTED = 50_000_000  # of four bytes: an expected interval far below what a service can do would make billions


def none_yet() -> Latencies:
    """No latencies."""
    return np.empty(0, np.float32)


def percentiles(latencies: Latencies) -> dict[str, float]:
    """Seconds within which each share of the requests was answered; empty without a request.

    Each is the latency of a request that happened, the smallest that is at least as long as that share's: nothing is
    interpolated, so a single long one is never made shorter.
    """
    if not len(latencies):
        return {}
    values = np.percentile(latencies, list(PERCENTILES.values()), method="inverted_cdf")
    return dict(zip(PERCENTILES, map(float, values), strict=True))


def corrected(latencies: Latencies, interval: float) -> Latencies:
    """Latencies of a closed loop with those added that callers would have seen who ask every `interval` seconds.

    What HdrHistogram calls recording with an expected interval: an answer that took longer stands for the requests that
    were not sent meanwhile, and those would have waited interval by interval less (Tene, "How not to measure latency").

    Raises:
        ValueError: if the interval is so short that this would be more numbers than fit.
    """
    if interval <= 0:
        raise ValueError(f"got an expected interval of {interval:g} s, expected more than 0")
    missed = np.maximum(np.ceil(latencies / interval) - 1, 0).astype(np.int64)  # 2.5 intervals: at 1.5 and at 0.5
    if missed.sum() > MOST_CORRECTED:
        raise ValueError(
            f"got an expected interval of {interval * 1000:g} ms, at which {missed.sum():,} requests were not sent; "
            "expected one that the service can keep up with"
        )
    firsts = np.repeat(np.cumsum(missed) - missed, missed)
    later = np.arange(missed.sum()) - firsts + 1  # 1, 2, … for each long answer
    added = np.repeat(latencies, missed) - later * interval
    return np.concatenate([latencies, added.astype(np.float32)])


@dataclass
class Figures:
    """What was seen, so far or between two looks.

    Attributes:
        latencies: seconds from due to answered, of each request that was answered or that no answer came for in time.
        lags: seconds by which the generator itself sent each request late, of those that had a place to go.
        versions: answers by version.
        failures: failed requests by what went wrong: a gRPC code, or WRONG_ANSWER.
        messages: the first message of each of those.
    """

    latencies: Latencies = field(default_factory=none_yet)
    lags: Latencies = field(default_factory=none_yet)
    versions: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Requests that were answered rightly."""
        return self.versions.total()

    @property
    def failed(self) -> int:
        """Requests that were not."""
        return self.failures.total()

    def add(self, other: "Figures") -> None:
        """Takes in what another one saw, all but its latencies and lags: see `gathered`."""
        self.versions.update(other.versions)
        self.failures.update(other.failures)
        self.messages = {**other.messages, **self.messages}


def gathered(parts: list[Figures]) -> Figures:
    """Many figures as one."""
    total = Figures()
    if parts:
        total.latencies = np.concatenate([part.latencies for part in parts])
        total.lags = np.concatenate([part.lags for part in parts])
    for part in parts:
        total.add(part)
    return total


def in_milliseconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Percentiles for a JSON document."""
    return {name: round(value * 1000, 4) for name, value in seconds.items()}
