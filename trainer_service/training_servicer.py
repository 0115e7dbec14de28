"""The gRPC face of jobs and data sets: decodes a message, calls one method of the domain, encodes its answer."""

from collections.abc import Iterator

import grpc

from shared.errors import FieldViolation, InvalidInputError
from shared.manifest_codec import OPTIMIZERS, preprocessing_to_proto
from shared.paging import page_of
from shared.pb.weightcast.v1 import dataset_pb2, training_pb2
from shared.pb.weightcast.v1 import trainer_service_pb2 as pb
from shared.pb.weightcast.v1.trainer_service_pb2_grpc import TrainerServiceServicer
from shared.proto_values import tensor_to_proto
from shared.training_spec import Optimizer, TrainingSpec
from trainer_service.datasets.catalogue import Catalogue
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.jobs.job_codec import event_to_proto, job_to_proto
from trainer_service.jobs.job_service import JobService

MAX_EXAMPLES = 1000
DEFAULT_EXAMPLES = 100


class TrainingServicer(TrainerServiceServicer):
    """weightcast.v1.TrainerService."""

    def __init__(self, jobs: JobService, catalogue: Catalogue) -> None:
        self._jobs = jobs
        self._catalogue = catalogue

    def CreateTrainingJob(
        self, request: pb.CreateTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.CreateTrainingJobResponse:
        """Validates and queues a job."""
        job = self._jobs.create(requested_spec(request.spec), request.request_id)
        return pb.CreateTrainingJobResponse(job=job_to_proto(job))

    def GetTrainingJob(
        self, request: pb.GetTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.GetTrainingJobResponse:
        """Returns one job."""
        return pb.GetTrainingJobResponse(job=job_to_proto(self._jobs.get(request.job_id)))

    def ListTrainingJobs(
        self, request: pb.ListTrainingJobsRequest, context: grpc.ServicerContext
    ) -> pb.ListTrainingJobsResponse:
        """Lists jobs, newest first."""
        page = page_of(request.page_size, request.page_token)
        offset = page.position or 0
        jobs = self._jobs.newest(offset, page.size + 1)
        return pb.ListTrainingJobsResponse(
            jobs=[job_to_proto(job) for job in jobs[: page.size]],
            next_page_token=str(offset + page.size) if len(jobs) > page.size else "",
        )

    def CancelTrainingJob(
        self, request: pb.CancelTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.CancelTrainingJobResponse:
        """Asks a job to stop."""
        return pb.CancelTrainingJobResponse(job=job_to_proto(self._jobs.cancel(request.job_id)))

    def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingJobResponse]:
        """Streams a job's events."""
        for recorded in self._jobs.watch(request.job_id, request.cursor, context.is_active):
            yield event_to_proto(recorded.event, recorded.cursor)

    def ListDatasets(self, request: pb.ListDatasetsRequest, context: grpc.ServicerContext) -> pb.ListDatasetsResponse:
        """Lists the data sets a job can name."""
        page = page_of(request.page_size, request.page_token)
        start = page.position or 0
        stop = start + page.size
        entries = list(self._catalogue.entries.values())
        return pb.ListDatasetsResponse(
            datasets=[
                dataset_pb2.Dataset(name=entry.name, description=entry.description) for entry in entries[start:stop]
            ],
            next_page_token=str(stop) if stop < len(entries) else "",
        )

    def GetDataset(self, request: pb.GetDatasetRequest, context: grpc.ServicerContext) -> pb.GetDatasetResponse:
        """Describes one data set."""
        dataset = self._catalogue.load(request.name)
        return pb.GetDatasetResponse(
            dataset=dataset_pb2.Dataset(
                name=dataset.name,
                description=self._catalogue.entry(request.name).description,
                preprocessing=preprocessing_to_proto(dataset.preprocessing),
                class_labels=dataset.class_labels,
                train_size=len(dataset.train),
                test_size=len(dataset.test),
                digest=dataset.digest,
            )
        )

    def ListDatasetExamples(
        self, request: pb.ListDatasetExamplesRequest, context: grpc.ServicerContext
    ) -> pb.ListDatasetExamplesResponse:
        """Pages through a data set's examples."""
        page = page_of(request.page_size, request.page_token, default=DEFAULT_EXAMPLES, largest=MAX_EXAMPLES)
        dataset = self._catalogue.load(request.dataset)
        split = requested_split(request.split, dataset)
        start = page.position or 0
        stop = start + page.size
        examples = split.examples[start:stop].reshape(-1, *dataset.preprocessing.input_shape)
        return pb.ListDatasetExamplesResponse(
            examples=tensor_to_proto(examples),
            class_ids=split.class_ids[start:stop].tolist(),
            next_page_token=str(stop) if stop < len(split) else "",
            total_size=len(split),
        )

    def UploadDataset(
        self, request_iterator: Iterator[pb.UploadDatasetRequest], context: grpc.ServicerContext
    ) -> pb.UploadDatasetResponse:
        """Not implemented yet."""
        raise NotImplementedError

    def DeleteDataset(
        self, request: pb.DeleteDatasetRequest, context: grpc.ServicerContext
    ) -> pb.DeleteDatasetResponse:
        """Not implemented yet."""
        raise NotImplementedError


def requested_split(split: int, dataset: Dataset) -> Split:
    """The split in a request; the test split where it names none.

    Raises:
        InvalidInputError: if it is none this build knows.
    """
    match split:
        case dataset_pb2.DATASET_SPLIT_UNSPECIFIED | dataset_pb2.DATASET_SPLIT_TEST:
            return dataset.test
        case dataset_pb2.DATASET_SPLIT_TRAIN:
            return dataset.train
        case _:
            raise InvalidInputError.of("split", f"got {split}, expected DATASET_SPLIT_TRAIN or DATASET_SPLIT_TEST")


def requested_spec(proto: training_pb2.TrainingSpec) -> TrainingSpec:
    """The spec in a request, with defaults where a field is unset; limits are the domain's to check.

    Raises:
        InvalidInputError: if the optimizer is none this build knows.
    """
    known = {value: key for key, value in OPTIMIZERS.items()}
    optimizer = known.get(proto.optimizer, Optimizer.ADAM)
    given = {
        name: getattr(proto, name) for name in ("epochs", "batch_size", "learning_rate", "seed") if proto.HasField(name)
    }
    if proto.HasField("network"):
        given["hidden_layer_sizes"] = tuple(proto.network.hidden_layer_sizes)
    spec = TrainingSpec.with_defaults(proto.model, proto.dataset, optimizer, **given)
    if proto.optimizer not in (training_pb2.OPTIMIZER_UNSPECIFIED, *known):
        expected = " or ".join(map(training_pb2.Optimizer.Name, known))
        violation = FieldViolation("spec.optimizer", f"got {proto.optimizer}, expected {expected}")
        raise InvalidInputError(violation, *spec.violations())
    return spec
