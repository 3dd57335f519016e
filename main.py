"""Runs the experiment that a config names: `python main.py --config=configs/mgan.py`."""

import contextlib
import os
import sys
from pathlib import Path

from mgan_jax import interrupt


def cache_folder() -> Path | None:
    """Where compiled programs are kept; None where no such folder can be made, as without a home folder."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mgan_jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def set_environment(keep_programs: bool) -> None:
    """Our settings of JAX and XLA, to be made before they are imported; what the user has set there stays."""
    settings = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5"}
    # XLA's errors come as exceptions too; what this leaves out is its alarms at programs that take long to compile.
    settings["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if not keep_programs:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    elif "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := cache_folder()):
        settings["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def run(flags, given: str) -> int:
    """Imports jax and the experiment, runs it, and returns the exit status: 3 where a line of a report's sanity does not hold."""
    from mgan_jax.command_line import data_dir_of, seeds_of, workdir_of

    set_environment(flags.compilation_cache)
    from mgan_jax import devices
    from mgan_jax.build import experiment
    from mgan_jax.experiments.options import Options
    from mgan_jax.experiments.sanity import violated

    if flags.distributed:
        devices.join()
    mesh = devices.make_mesh(flags.devices or ("all" if flags.distributed else "1"))
    if devices.is_primary() and (advice := devices.advice(mesh)):
        print(advice, file=sys.stderr)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(sys.stdout if devices.is_primary() else nowhere):
            seeds = tuple(seeds_of(flags.config))
            options = Options(workdir_of(given), data_dir_of(), seeds, flags.overwrite, flags.progress, mesh)
            done = experiment(flags.config.experiment)(flags.config, options)
            broken = [claim for results in (done if isinstance(done, list) else [done]) for claim in violated(results or {})]
            if broken:
                print(f"does not hold: {'; '.join(dict.fromkeys(broken))}")
    return 3 if broken else 0


def main(_: list[str]) -> int:
    from absl import logging
    from ml_collections import config_flags

    from mgan_jax.command_line import FLAGS, stop

    logging.set_verbosity(logging.WARNING)
    try:
        return run(FLAGS, config_flags.get_config_filename(FLAGS["config"]))
    except KeyboardInterrupt:
        interrupt.end()
    except (ValueError, OSError, FloatingPointError) as error:
        if FLAGS.traceback:
            raise
        stop(error, 1)


if __name__ == "__main__":
    # Before all else: what is imported from here on takes a second.
    interrupt.watch()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="replace")  # where a terminal knows no dash it shows a question mark
    from absl import app

    from mgan_jax.command_line import parse

    app.run(main, flags_parser=parse)
