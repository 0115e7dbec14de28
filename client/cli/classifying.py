"""`weightcast classify`: image files, a CSV file's rows, or a data set's test examples, by the inference service."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.markup import escape
from rich.table import Table

from client.cli.confusion import confusion_table, counts_of
from client.cli.csv_rows import rows_of
from client.cli.dataset_view import IMAGE_DIMENSIONS
from client.cli.models import selector
from client.cli.options import (
    INFERENCE,
    TRAINER,
    AsJson,
    InferenceAddress,
    TrainerAddress,
    console,
    errors,
    print_json,
)
from client.cli.pictures import brightness, images, images_that_fit, resized
from client.cli.training import model_name
from client.inference_client import InferenceClient, Prediction
from client.trainer_client import TrainerClient

BATCH_ROWS = 500
BATCH_BYTES = 8 * 2**20
WIDEST_IMAGE = 40
FEW = 3
Examples = npt.NDArray[np.uint8 | np.float32]


def classify(
    files: Annotated[list[Path] | None, typer.Argument(help="PNG or JPEG files.", exists=True, dir_okay=False)] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask; the data set's name, or mnist.")] = None,
    version: Annotated[str, typer.Option(help="A version's number or an alias.")] = "live",
    dataset: Annotated[str | None, typer.Option(help="Classify a data set's test examples instead of files.")] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Classify the rows of a CSV file without a label: the model's columns, by the names in a header or, "
            "without one, in their order.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many test examples; all if not given.", min=1)] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Classes to show for each file or row, best first; up to 3 if not given.", min=1)
    ] = None,
    as_json: AsJson = False,
    inference: InferenceAddress = INFERENCE,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Classifies image files or a table's rows, or measures the model on a data set's test examples."""
    if [bool(files), bool(dataset), bool(csv)].count(True) != 1:
        raise typer.BadParameter("give either image files, or --csv, or --dataset with an optional --count")
    model = model or (model_name(dataset) if dataset else "mnist")
    with InferenceClient(inference) as client:
        if dataset:
            classify_dataset(client, trainer, dataset, count, model, version, as_json=as_json)
        elif csv:
            classify_csv(client, trainer, csv, model, version, top_k, as_json=as_json)
        else:
            paths = files or []
            answer = client.classify(
                model,
                [path.read_bytes() for path in paths],
                version=selector(version),
                top_k=top_k or 1,
                include_probabilities=top_k is None,
            )
            show_answers("file", list(map(str, paths)), [best_few(answer)], as_json=as_json)


def best_few(answer: Prediction) -> Prediction:
    """The answer with its FEW best classes, or as many as there are, where all probabilities were asked for."""
    if answer.probabilities is None:
        return answer
    class_ids = np.argsort(-answer.probabilities, axis=1, kind="stable")[:, :FEW]
    return replace(answer, class_ids=class_ids, scores=np.take_along_axis(answer.probabilities, class_ids, axis=1))


def show_answers(what: str, names: Sequence[str], answers: Sequence[Prediction], *, as_json: bool) -> None:
    """Prints the best classes of each file or row."""
    rows = [
        [
            {"label": answer.class_labels[class_id], "class_id": int(class_id), "score": float(score)}
            for class_id, score in zip(class_ids, scores, strict=True)
        ]
        for answer in answers
        for class_ids, scores in zip(answer.class_ids, answer.scores, strict=True)
    ]
    last = answers[-1]
    if as_json:
        results = [{what: name, "classes": classes} for name, classes in zip(names, rows, strict=True)]
        served_by = {"model": last.model, "version": last.version, "digest": last.digest}
        print_json({"served_by": served_by, "results": results})
        return
    versions = ", ".join(map(str, sorted({answer.version for answer in answers})))
    table = Table(title=f"{last.model} version {versions}", title_justify="left")
    table.add_column(what)
    for rank in range(last.class_ids.shape[1]):
        table.add_column("best" if rank == 0 else f"{rank + 1}.")
    for name, classes in zip(names, rows, strict=True):
        table.add_row(escape(name), *[f"{escape(str(best['label']))}  {best['score']:.1%}" for best in classes])
    console.print(table)


def classify_csv(
    client: InferenceClient, trainer: str, path: Path, model: str, version: str, top_k: int | None, *, as_json: bool
) -> None:
    """Classifies the rows of a CSV file, all by the version whose columns its header was held against."""
    answering, names = columns_taken(client, trainer, model, version)
    table = rows_of(path, names)
    if table.has_header and not names:
        errors.print(
            f"{model} version {answering} does not know the names of its columns: the header of {path} is not checked, "
            "and columns are taken in the order in which they stand",
            highlight=False,
            markup=False,
        )
    answers = [best_few(answer) for answer in classify_in_batches(client, model, answering, table.values, top_k)[0]]
    show_answers("row", list(map(str, table.lines)), answers, as_json=as_json)


def columns_taken(client: InferenceClient, trainer: str, model: str, version: str) -> tuple[str, tuple[str, ...]]:
    """The number of the version that is meant now, and the names of its columns; none where it has none.

    The inference service tells those of the live version; only for another one the trainer is asked.
    """
    status = client.status(model)
    wanted = selector(version)
    if wanted in ("live", status.live.version):
        number = str(status.live.version) if status.HasField("live") else version  # not ready: classifying says why
        return number, tuple(status.preprocessing.feature_names)
    with TrainerClient(trainer) as trainer_client:
        found = trainer_client.version(model, wanted)
    return str(found.version), tuple(found.manifest.preprocessing.feature_names)


def classify_dataset(
    client: InferenceClient,
    trainer: str,
    dataset: str,
    count: int | None,
    model: str,
    version: str,
    *,
    as_json: bool,
) -> None:
    """Classifies a data set's test examples in batches and prints accuracy and a confusion matrix."""
    with TrainerClient(trainer) as trainer_client:
        examples, truth = trainer_client.examples(dataset, count)
    started = time.perf_counter()
    answers, used = classify_in_batches(client, model, version, examples)
    seconds = time.perf_counter() - started
    predicted = np.concatenate([answer.class_ids[:, 0] for answer in answers])
    accuracy = float((predicted == truth).mean())
    if as_json:
        print_json(
            {
                "model": model,
                "versions": sorted(used),
                "examples": len(truth),
                "accuracy": accuracy,
                "seconds": seconds,
                "class_ids": predicted.tolist(),
            }
        )
        return
    console.print(
        f"{model} version {', '.join(map(str, sorted(used)))}: {accuracy:.2%} of {len(truth):,} right, "
        f"{len(truth) / seconds:,.0f} examples/s",
        highlight=False,
    )
    labels = answers[0].class_labels
    console.print(confusion_table(counts_of(truth, predicted, len(labels)), labels, console.width))
    draw_mistakes(examples, truth, predicted, labels)


def classify_in_batches(
    client: InferenceClient, model: str, version: str, examples: Examples, top_k: int | None = 1
) -> tuple[list[Prediction], set[int]]:
    """Every example's answer, and which versions gave them."""
    size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, examples[0].nbytes)))  # large images must fit one message
    answers = [
        client.classify(
            model,
            examples[start : start + size],
            version=selector(version),
            top_k=top_k or 1,
            include_probabilities=top_k is None,
        )
        for start in range(0, len(examples), size)
    ]
    return answers, {answer.version for answer in answers}


def draw_mistakes(
    examples: Examples, truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], labels: Sequence[str]
) -> None:
    """Draws a few examples, those that were mistaken first; nothing for the rows of a table."""
    if examples.ndim - 1 not in IMAGE_DIMENSIONS:
        return
    width = min(WIDEST_IMAGE, examples.shape[2])
    order = np.argsort(predicted == truth, kind="stable")[: images_that_fit(console.width, width)]
    labels = tuple(map(escape, labels))
    captions = [
        f"{labels[truth[index]]}" if truth[index] == predicted[index]
        else f"[red]{labels[truth[index]]} taken for {labels[predicted[index]]}[/]"
        for index in order
    ]  # fmt: skip
    console.print(images(resized(brightness(examples[order]), width), captions))
