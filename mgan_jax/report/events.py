"""Training curves as TensorBoard event files, without TensorFlow."""

from pathlib import Path

import numpy as np


def write_events(logdir: Path, history: dict[str, dict[str, np.ndarray]]) -> None:
    """One folder a stage, one scalar a metric and step; an earlier run's files are replaced.

    Args:
      logdir: for `tensorboard --logdir`.
      history: {stage: {metric: [steps]}}.
    """
    from tensorboardX import SummaryWriter

    for stage, metrics in history.items():
        folder = Path(logdir) / stage
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(folder)) as writer:
            for name, values in metrics.items():
                for step, value in enumerate(np.asarray(values)):
                    if np.isfinite(value):
                        writer.add_scalar(name, float(value), step + 1)
