"""Mutation testing of a file of images."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax import devices, engine, metrics, population
from mgan_jax.datasets.split import checked
from mgan_jax.detectors.sprt import sequential_test
from mgan_jax.experiments import populations, testing
from mgan_jax.experiments.crafting import check
from mgan_jax.experiments.data import test_images
from mgan_jax.experiments.options import Options, opened, provenance
from mgan_jax.experiments.stages import Run, stage
from mgan_jax.experiments.training import train_target
from mgan_jax.report import results as report_results
from mgan_jax.report.terminal import number, percent
from mgan_jax.success import fooled
from mgan_jax.types import Classifier, Dataset, Variables

END_BYTES = 22
"""Size of the record at the end of a zip archive, whose bytes 10 and 11 are the number of members."""


def read_images(
    path: str, name: str, image_shape: tuple[int, int, int], num_classes: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and perhaps labels of an NPZ file.

    Args:
      path: of the file.
      name: of the array that holds the images.
      image_shape, num_classes: of the data set.

    Raises:
      FileNotFoundError: no file is named, or it is not there.
      ValueError: it holds no such images, or images of another shape than the data set's.
    """
    file = Path(path).expanduser() if path else Path()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path!r}; name one that holds images as --config.images=FILE.npz")
    arrays, names = read_arrays(file, (name, "labels"))
    if name not in arrays:
        raise ValueError(f"{path} holds {', '.join(names) or 'nothing'}; name the images with --config.array, now {name!r}")
    if arrays[name].ndim not in (3, 4):
        raise ValueError(f"{path} holds {name} of shape {arrays[name].shape}; [N, H, W, C] is expected")
    labels = arrays.get("labels")
    images, _ = checked(arrays[name], np.zeros(len(arrays[name]), int) if labels is None else labels, num_classes, path)
    height, width, channels = image_shape
    if images.shape[1:] != image_shape:
        first = images.shape[1:] == (channels, height, width)
        hint = f": its channels come first; write {name}.transpose(0, 2, 3, 1) to the file" if first else ""
        raise ValueError(f"{path} holds images of {images.shape[1:]}; the target was made for {image_shape}{hint}")
    return images, labels


def read_arrays(path: Path, wanted: tuple[str, ...]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of the wanted arrays that an NPZ file holds, and the names of all that are in it.

    Raises:
      ValueError: it is no NPZ file, or damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            # A damaged directory may have lost an array, or changed its name, which its own header then does not bear.
            opened.seek(-END_BYTES - len(stored.zip.comment), 2)
            if int.from_bytes(opened.read(END_BYTES)[10:12], "little") != len(stored.zip.infolist()) % 2**16:
                raise ValueError("its directory does not hold as many arrays as it says")
            for member in stored.zip.infolist():
                stored.zip.open(member).close()
            arrays = {name: stored[name] for name in wanted if name in stored.files}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("a member is no array")
            return arrays, list(stored.files)
    except PermissionError:
        raise
    # zipfile, zlib and numpy each raise errors of their own for damaged bytes.
    except Exception as error:
        raise ValueError(f"{path} is no NPZ file that can be read: {error or type(error).__name__}") from None


def row_of(
    clean_flips: np.ndarray,
    clean: np.ndarray,
    correct: np.ndarray,
    flips: np.ndarray,
    decisions: np.ndarray,
    kappa: float | None,
    seed: int,
) -> dict:
    """Measures of the file's images beside other, normal ones; None without mutants or images.

    Args:
      clean_flips: [M, N] flips of clean images.
      clean: [N] the target's decisions on them.
      correct: [N] which are classified correctly: the normal ones.
      flips: [M, A] flips of the file's images.
      decisions: [A] the target's decisions on these.
      kappa: SPRT's threshold.
      seed: of the bootstrap.
    """
    normal, there = clean_flips[:, correct], bool(flips.size)
    interval = lambda matrix: metrics.two_way_bootstrap([matrix], lambda r: r[0].mean(), testing.RESAMPLES, 0.99, seed)  # noqa: E731
    mean = lambda matrix: float(matrix.mean()) if there and matrix.size else None  # noqa: E731
    rates, normal_rates = (matrix.mean(0) if there else np.zeros(0) for matrix in (flips, normal))
    testable = there and normal.size and kappa is not None and 0 < kappa * 1.1 < 1
    verdicts = (sequential_test(flips, kappa), sequential_test(normal, kappa)) if testable else (None, None)
    return {
        "lcr": mean(flips), "lcr_ci99": interval(flips), "normal_lcr": mean(normal), "normal_lcr_ci99": interval(normal),
        "class_matched_normal_lcr": metrics.class_matched(clean_flips.mean(0), clean, decisions) if there else None,
        "auroc": metrics.auroc(rates, normal_rates),
        "tpr_at_5fpr": metrics.true_positive_rate(rates, normal_rates),
        "tpr_at_5fpr_low": metrics.true_positive_rate(-rates, -normal_rates),
        **testing.sprt_fields(*verdicts),
    }  # fmt: skip


def given_images(config: Any, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """The images that `config.images` names, and their labels where the file has them; raises as `read_images`."""
    return read_images(config.images, config.array, dataset.image_shape, dataset.num_classes)


def check_both(config: Any, dataset: Dataset) -> None:
    """The configuration and the images; raises ValueError or FileNotFoundError for a mistake in either."""
    check(config, dataset)
    given_images(config, dataset)


def tested_by(run: Run, classifier: Classifier, variables: Variables) -> Iterator[populations.Tested]:
    """The mutants of each protocol and operator in turn, none of which an attack of the configuration learns from."""
    used = populations.trained(run, variables)
    for name, protocol in run.config.protocols.items():
        for operator in run.config.testing.operators:
            drawn = testing.Protocol(name, protocol.rate, protocol.min_accuracy_ratio)
            tested, used = populations.draw(run, classifier, variables, operator, drawn, used)
            yield tested


def tested_images(decisions: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Which images [N] are tested: with labels those that are misread, else all, but none that is read as no class."""
    return decisions != engine.NO_CLASS if labels is None else fooled(labels, np.ones(len(labels), bool), decisions)


def run(config: Any, options: Options) -> dict:
    """Tests the images of `config.images` against the target's test images; options as in `experiments.options`.

    Returns:
      The results, also written to results.json: one row an operator and protocol. Where the file has labels, the adversarial
      set is what the target misclassifies, else all of it; the normal set is the correctly classified test images.

    Raises:
      ValueError: several seeds.
    """
    if len(options.seeds) != 1:
        raise ValueError(f"this experiment takes one seed, not {list(options.seeds)}")
    path, (seed,) = options.path, options.seeds
    began = time.monotonic()
    rows = []
    with opened(config, options, check_both) as runs:
        (one,) = runs
        dataset = one.dataset
        images, labels = given_images(config, dataset)
        classifier, variables, _ = train_target(one)
        whole = dataset.test
        target = testing.target_fields(
            config.target.name, engine.predictions(classifier.apply, variables, whole.images), whole.labels
        )
        test = test_images(dataset, config.testing.num_images)
        clean = engine.predictions(classifier.apply, variables, test.images)
        correct = clean == test.labels
        decisions = engine.predictions(classifier.apply, variables, images)
        chosen, whole_set = tested_images(decisions, labels), np.ones(len(images), bool)
        misread = metrics.named("misclassification", chosen if labels is None else decisions != labels, whole_set, "num_images")
        if labels is None:
            misread |= {"misclassification": None, "misclassification_ci95": None}
        total = len(config.protocols) * len(config.testing.operators)
        update = one.start("mutation testing", total, "populations")
        for done, tested in enumerate(tested_by(one, classifier, variables), 1):

            def make(run: Run, tested: populations.Tested = tested, **_) -> tuple[dict, dict]:
                clean_flips = population.votes(classifier, tested.found, test.images, **run.how) != clean
                flips = (population.votes(classifier, tested.found, images, **run.how) != decisions)[:, chosen]
                row = {
                    "attack": "images", "operator": tested.operator, "protocol": tested.protocol.name,
                    "rate": tested.protocol.rate, "min_accuracy_ratio": tested.protocol.min_accuracy_ratio,
                    **testing.mutant_fields(tested.found), "num_adversarial": int(chosen.sum()), "num_normal": int(correct.sum()),
                    "kappa": tested.kappa, "seed": seed, **misread,
                    **row_of(clean_flips, clean, correct, flips, decisions[chosen], tested.kappa, seed),
                }  # fmt: skip
                return {}, {"row": row}

            inputs = {**populations.inputs_of(tested, variables), "images": images, "labels": labels, "normal": tuple(test)}
            stored = stage(one, f"testing_{tested.operator}_{tested.protocol.name}", make, inputs, ("mutation",))
            rows.append(stored.numbers["row"])
            update(done)
    results = {
        "target": target,
        "rows": rows,
        **provenance(one, time.monotonic() - began),
    }
    devices.on_primary(report_results.write_results, path / "results.json", results)
    print(f"{int(chosen.sum())} of {len(images)} images tested, beside {int(correct.sum())} normal ones")
    print(f"{'protocol':>10}  operator    M  LCR %  normal %  matched %  AUROC  TPR at 5 % FPR  SPRT - FP  undecided %  used")
    for row in rows:
        numbers = f"{percent(row['lcr'], 2):>6}  {percent(row['normal_lcr'], 2):>8}  "
        numbers += f"{percent(row['class_matched_normal_lcr'], 2):>9}  {number(row['auroc']):>5}  "
        numbers += f"{percent(row['tpr_at_5fpr']):>14}  {percent(row['sprt_excess']):>9}  {percent(row['sprt_undecided']):>11}  "
        numbers += f"{number(row['sprt_mutants_used'], 0):>4}"
        print(f"{row['protocol']:>10}  {row['operator']:>8}  {row['num_mutants']:>3}  {numbers}")
    return results
