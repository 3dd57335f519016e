"""Pictures of images: what attacks do to them, and what the target makes of them."""

from typing import Any

import numpy as np

from mgan_jax.report.material import Material


def show(axis: Any, image: np.ndarray, **options: Any) -> None:
    """Draws [H, W, C]: grey for one channel, colours for three."""
    axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, interpolation="nearest", **options)


def bare(axis: Any) -> None:
    """No ticks, no frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def verdict(probabilities: np.ndarray, class_names: tuple[str, ...]) -> str:
    """The class and its probability."""
    return f"{class_names[int(probabilities.argmax())]}  {100 * probabilities.max():.0f} %"


def attack_grid(material: Material, attack: str, num_classes: int = 10) -> Any:
    """One flipped image of each class: clean, perturbation (grey is none), adversarial, with the target's verdicts."""
    from matplotlib.figure import Figure

    made = material.adversarial[attack]
    chosen = []
    for label in range(min(num_classes, len(material.class_names))):
        own = np.flatnonzero(material.labels == label)
        chosen += [*own[made.success[own]], *own][:1]
    figure = Figure(figsize=(1.05 * max(len(chosen), 3), 3.7), layout="constrained")
    axes = figure.subplots(3, max(len(chosen), 1), squeeze=False)
    change = made.images - material.clean_images
    reach = max(float(np.abs(change).max()), 1e-6)
    for column, i in enumerate(chosen):
        show(axes[0, column], material.clean_images[i], cmap="gray", vmin=0, vmax=1)
        show(axes[1, column], (change[i] / reach + 1) / 2, cmap="gray", vmin=0, vmax=1)
        show(axes[2, column], made.images[i], cmap="gray", vmin=0, vmax=1)
        axes[0, column].set_title(verdict(material.probabilities[i], material.class_names), fontsize=8)
        colour = "#b42318" if made.success[i] else "#111827"
        axes[2, column].set_title(verdict(made.probabilities[i], material.class_names), fontsize=8, color=colour)
    for axis in axes.ravel():
        bare(axis)
    for row, name in enumerate(("clean", "perturbation", "adversarial")):
        axes[row, 0].set_ylabel(name, fontsize=8)
    return figure


def prediction_gallery(material: Material, columns: int = 6) -> Any:
    """A row a class: images the target gets right, then wrong, each named prediction/actual."""
    from matplotlib.figure import Figure

    classes = range(len(material.class_names))
    figure = Figure(figsize=(1.7 * columns, 0.85 * len(classes) + 0.3), layout="constrained")
    axes = figure.subplots(len(classes), 2 * columns, squeeze=False)
    predicted = material.probabilities.argmax(-1)
    for label in classes:
        for half, right in enumerate((True, False)):
            rows = np.flatnonzero((material.labels == label) & ((predicted == label) == right))[:columns]
            for place in range(columns):
                axis = axes[label, half * columns + place]
                bare(axis)
                if place < len(rows):
                    show(axis, material.clean_images[rows[place]], cmap="gray", vmin=0, vmax=1)
                    names = (material.class_names[predicted[rows[place]]], material.class_names[label])
                    axis.set_title("/".join(names), fontsize=7, pad=1, color="#111827" if right else "#b42318")
                elif place == 0:
                    axis.text(0.5, 0.5, "none", ha="center", va="center", fontsize=7, color="#9ca3af")
    return figure
