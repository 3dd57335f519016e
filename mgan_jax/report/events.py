"""Training curves as TensorBoard event files, without TensorFlow."""

from pathlib import Path

import numpy as np


def write_events(logdir: Path, history: dict[str, dict[str, np.ndarray]], images: dict[str, np.ndarray] | None = None) -> None:
    """One folder a stage, one scalar a metric and step; an earlier run's files are replaced.

    Args:
      logdir: for `tensorboard --logdir`.
      history: {stage: {metric: [steps]}}; values that are not finite are left out.
      images: {name: [N, H, W, C] in [0, 1]}, shown under the folder `images`.
    """
    from tensorboardX import SummaryWriter

    for stage in [*history, *(["images"] if images else [])]:
        folder = Path(logdir) / stage
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(folder)) as writer:
            for name, values in history.get(stage, {}).items():
                for step, value in enumerate(np.asarray(values)):
                    if np.isfinite(value):
                        writer.add_scalar(name, float(value), step + 1)
            if stage == "images" and images:
                for name, batch in images.items():
                    pixels = (255 * np.clip(np.nan_to_num(batch), 0, 1)).round().astype(np.uint8)
                    writer.add_images(name, pixels, 0, dataformats="NHWC")
