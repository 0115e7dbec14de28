"""Every key that this product has in Redis.

The braces are hash tags: what one script touches lies in one slot of a cluster.
"""

from dataclasses import dataclass

MODELS = "weightcast:models"  # set: the name of every model ever published
MODEL_EVENTS = "weightcast:models:events"  # stream: an entry when a model is published for the first time
RQ_PREFIX = "weightcast:{_rq}"  # what the keys that rq makes for itself begin with; no model can be called `_rq`
TRAINING_QUEUE = "weightcast-training"  # rq's name for the queue; it makes its own keys of it


@dataclass(frozen=True)
class ModelKeys:
    """The keys of one model."""

    model: str

    def _key(self, name: str) -> str:
        return f"weightcast:{{{self.model}}}:{name}"

    @property
    def counter(self) -> str:
        """String: the last version number given out."""
        return self._key("counter")

    @property
    def versions(self) -> str:
        """Sorted set: every stored version's number, scored by itself."""
        return self._key("versions")

    @property
    def records(self) -> str:
        """Hash, version → "digest publish-time-in-ms weights-size-in-bytes"."""
        return self._key("records")

    @property
    def manifests(self) -> str:
        """Hash, version → serialized manifest."""
        return self._key("manifests")

    @property
    def weights(self) -> str:
        """Hash, version → safetensors file."""
        return self._key("weights")

    @property
    def aliases(self) -> str:
        """Hash, alias → version."""
        return self._key("aliases")

    @property
    def verdicts(self) -> str:
        """Hash, version → "outcome policy margin accuracy live-version live-accuracy", as of its publication."""
        return self._key("verdicts")

    @property
    def annotations(self) -> str:
        """Hash, "version:notes" → text, "version:labels" → JSON, "version:pinned" → 1 or 0; only what was ever set."""
        return self._key("annotations")

    @property
    def revision(self) -> str:
        """String: counts the changes of aliases and rollouts."""
        return self._key("revision")

    @property
    def revisions(self) -> str:
        """Hash, alias → the revision that pointed it. Aliases that an earlier build pointed have none."""
        return self._key("revisions")

    @property
    def previous(self) -> str:
        """List: the versions that were live, the last one first; never one twice in a row, nor what is live on top."""
        return self._key("previous")

    @property
    def hold(self) -> str:
        """Hash: `actor`, `reason`, `time` in ms, while new versions do not go live by themselves."""
        return self._key("hold")

    @property
    def rollout(self) -> str:
        """Hash: `version`, `mode`, `percent`, `revision`, `actor`, `reason`, `created` and `updated` in ms.

        It is there while a version is tried, which is never the one that is live.
        """
        return self._key("rollout")

    @property
    def history(self) -> str:
        """Stream, an entry for every change of `live`, whose id is the revision: what, when, by whom, why."""
        return self._key("history")

    @property
    def jobs(self) -> str:
        """Hash, training job → "version digest verdict" of what it published, or 0 where it must publish nothing.

        It stays when the version goes: publishing twice gives the first publication again. Earlier builds kept the
        version only.
        """
        return self._key("jobs")

    @property
    def events(self) -> str:
        """Stream: an entry for every publication and change. It only wakes; the rest of the keys are the truth."""
        return self._key("events")

    def receipt(self, change: str) -> str:
        """String: what came of a change, for a minute, so that one sent again for a lost reply is not made again."""
        return self._key(f"receipt:{change}")

    def in_order(self) -> tuple[str, ...]:
        """The keys of every script, in the order in which `model.lua` names them."""
        return (
            self.counter, self.versions, self.records, self.manifests, self.weights, self.verdicts, self.annotations,
            self.aliases, self.revision, self.revisions, self.previous, self.hold, self.rollout, self.history,
            self.jobs, self.events,
        )  # fmt: skip


@dataclass(frozen=True)
class JobKeys:
    """The keys of training jobs; all share one hash tag, so that a script can create a job and list it at once.

    No model can be called `_jobs`, and whatever a client sends as a job's id stands behind a word of its own.
    """

    job_id: str

    INDEX = "weightcast:{_jobs}:index"  # sorted set: job ids by creation time in µs, no two of one time
    UNENDED = "weightcast:{_jobs}:unended"  # sorted set: those that have not ended, by the same time
    ENDED = "weightcast:{_jobs}:ended"  # sorted set: those that have, by the time they did in ms
    HEADS = "weightcast:{_jobs}:heads"  # hash, model → the one of its jobs that runs, or is the next to
    PREFIX = "weightcast:{_jobs}:job:"

    @staticmethod
    def line(model: str) -> str:
        """Sorted set: the jobs of a model that have not ended, in the order in which they run."""
        return f"weightcast:{{_jobs}}:line:{model}"

    @staticmethod
    def request(request_id: str) -> str:
        """String: the job that a client's request_id created."""
        return f"weightcast:{{_jobs}}:request:{request_id}"

    @property
    def job(self) -> str:
        """Hash: `state`, `job` (serialized TrainingJob), `cancel` (set once somebody asked for it), `turn`, `beat`.

        The turn counts how often the job was handed to a worker: only who holds the last one may change the job. The
        beat counts on as long as the one who runs it is alive.
        """
        return f"{self.PREFIX}{self.job_id}"

    @property
    def events(self) -> str:
        """Stream: the job's history, each entry a serialized WatchTrainingJobResponse."""
        return f"weightcast:{{_jobs}}:events:{self.job_id}"

    @property
    def checkpoint(self) -> str:
        """Hash: `facts` (JSON), and each array of the last checkpoint by name."""
        return f"weightcast:{{_jobs}}:checkpoint:{self.job_id}"

    def arriving_checkpoint(self, turn: int) -> str:
        """Hash as `checkpoint`, while it arrives; it expires if whoever sent it vanishes."""
        return f"weightcast:{{_jobs}}:arriving-checkpoint:{self.job_id}:{turn}"


@dataclass(frozen=True)
class DatasetKeys:
    """The keys of uploaded data sets; all share one hash tag, so that a script can store or remove one at once.

    No model can be called `_datasets`. What two names share is stored once: a name leads to a digest, a digest to data.
    """

    digest: str

    DIGESTS = "weightcast:{_datasets}:digests"  # hash: name → digest of its data
    RECORDS = "weightcast:{_datasets}:records"  # hash: name → serialized Dataset

    @staticmethod
    def arriving(upload: str) -> str:
        """Hash as `data`, while it arrives under a random word; it expires if whoever sent it vanishes."""
        return f"weightcast:{{_datasets}}:arriving:{upload}"

    @property
    def data(self) -> str:
        """Hash, place → a part of the safetensors file with examples and labels; the places count from 0."""
        return f"weightcast:{{_datasets}}:data:{self.digest}"

    @property
    def names(self) -> str:
        """Set: the names that have this data. When the last one goes, so does the data."""
        return f"weightcast:{{_datasets}}:names:{self.digest}"


class ScheduleKeys:
    """The keys of training schedules; both share one hash tag, so that one script can change both.

    No model can be called `_schedules`.
    """

    SCHEDULES = "weightcast:{_schedules}:schedules"  # hash: name → serialized TrainingSchedule
    DUE = "weightcast:{_schedules}:due"  # sorted set: names of those not paused, by when they are due in ms
