"""Mutation testing of a file of images."""

import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mgan_jax import metrics, population, workdir
from mgan_jax.datasets.split import checked
from mgan_jax.experiments import populations, testing
from mgan_jax.experiments.crafting import check
from mgan_jax.experiments.data import data_digest, load_data, test_images
from mgan_jax.experiments.training import Run, train_target
from mgan_jax.report import results as report_results
from mgan_jax.report.terminal import number, percent, progress


def read_images(path: str, image_shape: tuple[int, int, int], num_classes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and perhaps labels of an NPZ file.

    Raises:
      FileNotFoundError: no file is named, or it is not there.
      ValueError: it holds no such images, or images of another shape than the data set's.
    """
    if not path or not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path!r}; name one that holds images as --config.images=FILE.npz")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no NPZ file that can be read: {error}") from None
    if "images" not in arrays:
        raise ValueError(f"{path} holds {', '.join(arrays) or 'nothing'}; the images are expected under the name images")
    if arrays["images"].ndim != 4:
        raise ValueError(f"{path} holds images of shape {arrays['images'].shape}; [N, H, W, C] is expected")
    labels = arrays.get("labels")
    images, _ = checked(arrays["images"], np.zeros(len(arrays["images"]), int) if labels is None else labels, num_classes, path)
    if images.shape[1:] != image_shape:
        raise ValueError(f"{path} holds images of {images.shape[1:]}; the target was made for {image_shape}")
    return images, labels


def run(config: Any, path: Path, data_dir: str | None, seeds: list[int], overwrite: bool, show_progress: bool) -> dict:
    """Tests the images of `config.images` against the target's test images; arguments as in `experiments.mgan.run`.

    Returns:
      The results, also written to results.json: one row an operator and protocol, N images of the file against the
      correctly classified test images.

    Raises:
      ValueError: several seeds.
    """
    if len(seeds) != 1:
        raise ValueError(f"this experiment takes one seed, not {seeds}")
    began = time.monotonic()
    dataset = load_data(config.dataset, data_dir, seeds[0])
    check(config, dataset)
    images, labels = read_images(config.images, dataset.image_shape, dataset.num_classes)
    workdir.open_workdir(path, {**config.to_dict(), "seeds": seeds}, overwrite)
    rows = []
    with progress(show_progress) as start:
        one = Run(config, path, seeds[0], dataset, start, data_digest(dataset))
        classifier, variables, _ = train_target(one)
        whole = dataset.test
        accuracy = float((population.predictions(classifier.apply, variables, whole.images) == whole.labels).mean())
        test = test_images(dataset, config.testing.num_images)
        normal_decisions = population.predictions(classifier.apply, variables, test.images)
        correct = normal_decisions == test.labels
        decisions = population.predictions(classifier.apply, variables, images)
        pairs = [
            (operator, testing.Protocol(name, protocol.rate, protocol.min_accuracy_ratio))
            for name, protocol in config.protocols.items()
            for operator in config.testing.operators
        ]
        update = start("mutation testing", len(pairs), "populations")
        for done, (operator, protocol) in enumerate(pairs, 1):
            tested = populations.draw(one, classifier, variables, operator, protocol)
            row = {
                "attack": "images", "operator": operator, "protocol": protocol.name, "rate": protocol.rate,
                "min_accuracy_ratio": protocol.min_accuracy_ratio, "num_mutants": tested.found.num_mutants,
                "tried": tested.found.tried, "distinct": tested.found.num_mutants, "num_images": len(images),
                "misclassification": None if labels is None else float((decisions != labels).mean()),
                "lcr": None, "normal_lcr": None, "auroc": None, "tpr_at_5fpr": None, "tpr_at_5fpr_low": None,
            }  # fmt: skip
            if tested.found.num_mutants:
                rates = (populations.votes(classifier, tested, images) != decisions).mean(0)
                normal = (populations.votes(classifier, tested, test.images) != normal_decisions).mean(0)[correct]
                row |= {
                    "lcr": float(rates.mean()),
                    "normal_lcr": float(normal.mean()),
                    "auroc": metrics.auroc(rates, normal),
                    "tpr_at_5fpr": metrics.true_positive_rate(rates, normal),
                    "tpr_at_5fpr_low": metrics.true_positive_rate(-rates, -normal),
                }
            rows.append(row)
            update(done)
    results = {
        "config": config.to_dict(),
        "seed": seeds[0],
        "versions": report_results.environment(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "seconds": time.monotonic() - began,
        "target": {"name": config.target.name, "test_accuracy": accuracy, "num_images": len(whole.labels)},
        "rows": rows,
    }
    report_results.write_results(path / "results.json", results)
    print(f"{'protocol':>10}  operator    M  LCR %  normal %  AUROC")
    for row in rows:
        numbers = f"{percent(row['lcr'], 2):>6}  {percent(row['normal_lcr'], 2):>8}  {number(row['auroc']):>5}"
        print(f"{row['protocol']:>10}  {row['operator']:>8}  {row['num_mutants']:>3}  {numbers}")
    return results
