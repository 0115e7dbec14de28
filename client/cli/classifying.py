"""`weightcast classify`: image files, or the test examples of a data set, through the inference service."""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from client.cli.models import selector
from client.cli.options import INFERENCE, TRAINER, AsJson, InferenceAddress, TrainerAddress, console, print_json
from client.cli.pictures import confusion_matrix, images, images_that_fit
from client.inference_client import InferenceClient, Prediction
from client.trainer_client import TrainerClient

BATCH_ROWS = 500


def classify(
    files: Annotated[list[Path] | None, typer.Argument(help="PNG or JPEG files.", exists=True, dir_okay=False)] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask; the data set's name, or mnist.")] = None,
    version: Annotated[str, typer.Option(help="A version's number or an alias.")] = "live",
    dataset: Annotated[str | None, typer.Option(help="Classify a data set's test examples instead of files.")] = None,
    count: Annotated[int | None, typer.Option(help="How many of them; all if not given.", min=1)] = None,
    top_k: Annotated[int, typer.Option(help="Classes to show for each file, best first.", min=1)] = 3,
    as_json: AsJson = False,
    inference: InferenceAddress = INFERENCE,
    trainer: TrainerAddress = TRAINER,
) -> None:
    """Classifies image files, or measures the model on a data set's test examples."""
    if bool(files) == bool(dataset):
        raise typer.BadParameter("give either image files, or --dataset with an optional --count")
    model = model or dataset or "mnist"
    with InferenceClient(inference) as client:
        if dataset:
            classify_dataset(client, trainer, dataset, count, model, version, as_json=as_json)
            return
        assert files is not None  # noqa: S101 - said above, for the type checker
        prediction = client.classify(
            model, [path.read_bytes() for path in files], version=selector(version), top_k=top_k
        )
    show_files(files, prediction, as_json=as_json)


def show_files(files: list[Path], prediction: Prediction, *, as_json: bool) -> None:
    """Prints the best classes of each file."""
    results = [
        {
            "file": str(path),
            "classes": [
                {"label": prediction.class_labels[class_id], "class_id": int(class_id), "score": float(score)}
                for class_id, score in zip(class_ids, scores, strict=True)
            ],
        }
        for path, class_ids, scores in zip(files, prediction.class_ids, prediction.scores, strict=True)
    ]
    if as_json:
        served_by = {"model": prediction.model, "version": prediction.version, "digest": prediction.digest}
        print_json({"served_by": served_by, "results": results})
        return
    table = Table(title=f"{prediction.model} version {prediction.version}", title_justify="left")
    table.add_column("file")
    for rank in range(prediction.class_ids.shape[1]):
        table.add_column("best" if rank == 0 else f"{rank + 1}.")
    for path, class_ids, scores in zip(files, prediction.class_ids, prediction.scores, strict=True):
        cells = [
            f"{escape(prediction.class_labels[class_id])}  {score:.1%}"
            for class_id, score in zip(class_ids, scores, strict=True)
        ]
        table.add_row(escape(str(path)), *cells)
    console.print(table)


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
    console.print(confusion_matrix(truth, predicted, labels))
    draw_mistakes(examples, truth, predicted, labels)


def classify_in_batches(
    client: InferenceClient, model: str, version: str, examples: np.ndarray
) -> tuple[list[Prediction], set[int]]:
    """Every example's answer, and which versions gave them."""
    answers = [
        client.classify(model, examples[start : start + BATCH_ROWS], version=selector(version))
        for start in range(0, len(examples), BATCH_ROWS)
    ]
    return answers, {answer.version for answer in answers}


def draw_mistakes(examples: np.ndarray, truth: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...]) -> None:
    """Draws a few examples, those that were mistaken first."""
    if examples.ndim != 3:  # noqa: PLR2004 - rows of height × width
        return
    order = np.argsort(predicted == truth, kind="stable")[: images_that_fit(console.width, examples.shape[2])]
    labels = tuple(map(escape, labels))
    captions = [
        f"{labels[truth[index]]}" if truth[index] == predicted[index]
        else f"[red]{labels[truth[index]]} taken for {labels[predicted[index]]}[/]"
        for index in order
    ]  # fmt: skip
    console.print(images(examples[order], captions))
