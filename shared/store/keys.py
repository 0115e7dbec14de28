"""Every key that this product has in Redis.

The braces are hash tags: what one script touches lies in one slot of a cluster.
"""

from dataclasses import dataclass

MODELS = "weightcast:models"  # set: the name of every model ever published
MODEL_EVENTS = "weightcast:models:events"  # stream: an entry when a model is published for the first time
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
    def jobs(self) -> str:
        """Hash, training job → the version it published: publishing twice gives the first version again."""
        return self._key("jobs")

    @property
    def events(self) -> str:
        """Stream: an entry for every publication. It only wakes; the rest of the keys are the truth."""
        return self._key("events")


@dataclass(frozen=True)
class JobKeys:
    """The keys of training jobs; all share one hash tag, so that a script can create a job and list it at once.

    No model can be called `_jobs`, and whatever a client sends as a job's id stands behind a word of its own.
    """

    job_id: str

    INDEX = "weightcast:{_jobs}:index"  # sorted set: job ids by creation time in µs

    @staticmethod
    def request(request_id: str) -> str:
        """String: the job that a client's request_id created."""
        return f"weightcast:{{_jobs}}:request:{request_id}"

    @property
    def job(self) -> str:
        """Hash: `state`, `job` (serialized TrainingJob), `cancel` (set once somebody asked for it)."""
        return f"weightcast:{{_jobs}}:job:{self.job_id}"

    @property
    def events(self) -> str:
        """Stream: the job's history, each entry a serialized WatchTrainingJobResponse."""
        return f"weightcast:{{_jobs}}:events:{self.job_id}"


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
