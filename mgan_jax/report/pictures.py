"""Pictures of images: what attacks do to them, and what the target makes of them."""

from textwrap import fill, wrap
from typing import Any

import numpy as np

from mgan_jax.engine import NO_CLASS, decide
from mgan_jax.report.figures import INK, colour
from mgan_jax.report.material import Material

WRONG = "#b42318"
MUTED = "#6b7280"


def show(axis: Any, image: np.ndarray) -> None:
    """Draws [H, W, C] in [0, 1] without ticks: grey for one channel, colours for three."""
    axis.imshow(image[..., 0] if image.shape[-1] == 1 else image[..., :3], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    bare(axis)


def show_change(axis: Any, change: np.ndarray) -> None:
    """Draws a perturbation [H, W, C] in [-1, 1]: no change is white for one channel, grey for three."""
    if change.shape[-1] == 1:
        axis.imshow(change[..., 0], cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
    else:
        axis.imshow((np.clip(change[..., :3], -1, 1) + 1) / 2, interpolation="nearest")
    bare(axis)


def bare(axis: Any) -> None:
    """No ticks, and a faint frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color("#d1d5db")
    axis.spines[:].set_linewidth(0.6)


def read_as(probabilities: np.ndarray, class_names: tuple[str, ...]) -> str:
    """The class and its probability; "no class" where they are not finite."""
    label = int(decide(probabilities[None])[0])
    return class_name(label, class_names) + ("" if label == NO_CLASS else f"  {100 * probabilities[label]:.0f} %")


def class_name(label: int, class_names: tuple[str, ...]) -> str:
    """The name of a class that was decided for, or "no class"."""
    return "no class" if label == NO_CLASS else class_names[label]


def chosen_images(material: Material, attacks: list[str], count: int) -> list[int]:
    """At most `count` images, of different classes where it can be, those first that most of the attacks flip."""
    flipped = np.sum([material.adversarial[name].success for name in attacks], axis=0)
    best = sorted(range(len(material.labels)), key=lambda i: (-flipped[i], i))
    one_a_class = list({int(material.labels[i]): i for i in reversed(best)}.values())
    chosen = sorted(one_a_class, key=lambda i: (-flipped[i], material.labels[i]))[:count]
    return sorted(chosen, key=lambda i: material.labels[i])


def attack_grid(material: Material, attacks: list[str] | None = None, num_images: int = 8) -> Any:
    """The same images under every attack: clean, then perturbation and adversarial image, with the target's verdicts.

    Args:
      material: what was measured.
      attacks: those to show; all where None.
      num_images: rows, of different classes.
    """
    from matplotlib.figure import Figure

    attacks = list(material.adversarial) if attacks is None else attacks
    chosen = chosen_images(material, attacks, num_images)
    columns = 1 + 2 * len(attacks)
    widths = [1.0, *[0.16, 1.0, 1.0] * len(attacks)]
    figure = Figure(figsize=(0.98 * sum(widths) + 0.1, 1.17 * len(chosen) + 0.45))
    grid = figure.add_gridspec(
        len(chosen), len(widths), width_ratios=widths, left=0.005, right=0.995, bottom=0.005,
        top=1 - 0.58 / (1.17 * len(chosen) + 0.45), wspace=0.06, hspace=0.26,
    )  # fmt: skip
    places = [0, *(place for k in range(len(attacks)) for place in (2 + 3 * k, 3 + 3 * k))]
    axes = [[figure.add_subplot(grid[row, place]) for place in places] for row in range(len(chosen))]
    changes = [material.adversarial[name].images - material.clean_images for name in attacks]
    reach = max([float(np.abs(change[chosen]).max()) for change in changes if chosen], default=0) or 1.0
    for row, i in enumerate(chosen):
        show(axes[row][0], material.clean_images[i])
        axes[row][0].set_title(read_as(material.probabilities[i], material.class_names), fontsize=8, pad=2, color=INK)
        for k, name in enumerate(attacks):
            made = material.adversarial[name]
            show_change(axes[row][1 + 2 * k], changes[k][i] / reach)
            if row == 0:
                axes[row][1 + 2 * k].set_title("perturbation", fontsize=8, pad=2, color=MUTED)
            show(axes[row][2 + 2 * k], made.images[i])
            fooled = WRONG if made.success[i] else INK
            axes[row][2 + 2 * k].set_title(read_as(made.probabilities[i], material.class_names), fontsize=8, pad=2, color=fooled)
    for column in range(columns if chosen else 0):
        box = axes[0][column].get_position()
        height = 1 - 0.2 / figure.get_figheight()
        if column == 0:
            figure.text(
                (box.x0 + box.x1) / 2, height, "clean", ha="center", va="center", fontsize=9, color=INK, fontweight="bold"
            )
        elif column % 2:
            end = axes[0][column + 1].get_position()
            name = attacks[column // 2]
            lines = "\n".join(part.replace(" ", "_") for part in wrap(name.replace("_", " "), 24))
            figure.text(
                (box.x0 + end.x1) / 2, height, lines, ha="center", va="center", fontsize=9, color=colour(name), fontweight="bold"
            )
    return figure


def attack_rows(material: Material, attacks: list[str] | None = None, num_images: int = 10) -> Any:
    """A row an attack, a column an image, clean ones on top; above each the target's verdict, faded where the attack failed.

    For many attacks at once, where `attack_grid` with its perturbations would be too wide.

    Args:
      material: what was measured.
      attacks: those to show, from the top; all where None.
      num_images: columns, of different classes.
    """
    from matplotlib.figure import Figure

    attacks = list(material.adversarial) if attacks is None else attacks
    chosen = chosen_images(material, attacks, num_images)
    rows, columns = 1 + len(attacks), max(len(chosen), 1)
    margin, height = 1.45, 1.17 * (1 + len(attacks)) + 0.3
    width = margin + 0.98 * columns
    figure = Figure(figsize=(width, height))
    grid = figure.add_gridspec(
        rows, columns, left=margin / width, right=0.995, bottom=0.3 / height, top=1 - 0.2 / height, wspace=0.06, hspace=0.22
    )

    def draw(row: int, column: int, image: np.ndarray, verdict: str, shade: str, failed: bool) -> None:
        axis = figure.add_subplot(grid[row, column])
        show(axis, image)
        axis.images[0].set_alpha(0.3 if failed else 1.0)
        axis.set_title(verdict, fontsize=8, pad=2, color=shade)

    for column, i in enumerate(chosen):
        verdict = read_as(material.probabilities[i], material.class_names)
        draw(0, column, material.clean_images[i], verdict, INK, False)
        for row, name in enumerate(attacks, 1):
            made = material.adversarial[name]
            verdict = read_as(made.probabilities[i], material.class_names)
            draw(row, column, made.images[i], verdict, WRONG if made.success[i] else MUTED, not made.success[i])
    for row, name in enumerate(["clean", *attacks]):
        box = grid[row, 0].get_position(figure)
        shade = INK if row == 0 else colour(name)
        lines = fill(name.replace("_", " "), 18)
        place = {"ha": "right", "va": "center", "fontsize": 9, "fontweight": "bold"}
        figure.text(box.x0 - 0.1 / width, (box.y0 + box.y1) / 2, lines, color=shade, **place)
    figure.text(0.995, 0.08 / height, "red: the attack succeeds; faded: it fails", ha="right", fontsize=8, color=MUTED)
    return figure


def prediction_gallery(material: Material, columns: int = 6, num_classes: int = 20) -> Any:
    """A row a class: images the target gets right, then wrong, each named prediction/actual, with their counts.

    Args:
      material: what was measured.
      columns: images of each kind in a row.
      num_classes: the first classes are shown.
    """
    from matplotlib.figure import Figure

    names = material.class_names[:num_classes]
    figure = Figure(figsize=(11, 0.98 * len(names) + 0.1))
    widths = [1.5, *[1] * columns, 0.8, *[1] * columns]
    grid = figure.add_gridspec(
        len(names), len(widths), width_ratios=widths, left=0.005, right=0.995, bottom=0.005, top=0.98, wspace=0.08, hspace=0.3
    )
    predicted = np.asarray(decide(material.probabilities))
    for label, name in enumerate(names):
        own = material.labels == label
        heading = figure.add_subplot(grid[label, 0])
        heading.axis("off")
        heading.text(0, 0.62, name, fontsize=12, fontweight="bold", color=INK, va="center")
        counts = f"{int((own & (predicted == label)).sum())} of {int(own.sum())} right"
        heading.text(0, 0.25, counts, fontsize=8, color=MUTED, va="center")
        for half, right in enumerate((True, False)):
            found = np.flatnonzero(own & ((predicted == label) == right))[:columns]
            first = 1 + half * (columns + 1)
            for place, i in enumerate(found):
                axis = figure.add_subplot(grid[label, first + place])
                show(axis, material.clean_images[i])
                title = f"{class_name(predicted[i], material.class_names)}/{name}"
                axis.set_title(title, fontsize=8, pad=1.5, color=INK if right else WRONG)
            if not len(found):
                axis = figure.add_subplot(grid[label, first : first + columns])
                axis.axis("off")
                text = "none right" if right else "none wrong"
                axis.text(0, 0.5, text, va="center", fontsize=8, color="#9ca3af")
    return figure
