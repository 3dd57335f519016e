"""Runs the experiment that a config names: `python main.py --config=configs/mgan.py`."""

import importlib
import math
import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

USAGE = """python main.py --config=configs/NAME.py[:VARIANT] [flags]

  --config=FILE            the experiment; a variant follows a colon, as in configs/mgan.py:mnist
  --config.a.b=VALUE       replaces one value of the configuration
  --workdir=FOLDER         results and checkpoints (default: runs/NAME or runs/NAME_VARIANT)
  --data_dir=FOLDER        IDX files, or data sets prepared by TFDS (default: TFDS's own folder)
  --seeds=0,1,2            runs the experiment for each seed; reports mean and spread
  --overwrite              starts anew where the folder holds a run
  --noprogress             no progress bars
  --nocompilation_cache    compiles everything again at every start
  --traceback              shows where an error arose

The same command again continues a run that was stopped. Configurations: {configs}"""

CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment", lock_config=True)
flags.DEFINE_string("workdir", None, "folder of results and checkpoints")
flags.DEFINE_string("data_dir", None, "folder of IDX files or of prepared TFDS sets")
flags.DEFINE_list("seeds", None, "seeds to run")
flags.DEFINE_bool("overwrite", False, "start anew")
flags.DEFINE_bool("progress", True, "show progress bars")
flags.DEFINE_bool("compilation_cache", True, "keep compiled programs in the user's cache folder")
flags.DEFINE_bool("traceback", False, "show where an error arose")
FLAGS = flags.FLAGS


def stop(message: object, status: int) -> None:
    """Ends the program with one line."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


def not_finite(config: ConfigDict, prefix: str = "config") -> str | None:
    """Name of a value that is NaN or infinite."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            found = not_finite(value, f"{prefix}.{name}")
            if found:
                return found
        elif isinstance(value, float) and not math.isfinite(value):
            return f"{prefix}.{name}"
    return None


def parse(argv: list[str]) -> list[str]:
    """Reads the flags, the configuration and its overrides, so that every mistake in them ends here, in one line."""
    if "--help" in argv or "-h" in argv:
        configs = sorted(path.stem for path in Path("configs").glob("*.py"))
        print(USAGE.format(configs=", ".join(configs)))
        sys.exit(0)
    given = next((a.split("=", 1)[1] for a in argv if a.startswith("--config=")), None)
    if given is None and "--config" not in argv:
        stop("no experiment is named; pass for example --config=configs/mgan.py, or --help", 2)
    if given is not None and not Path(given.split(":")[0]).is_file():
        stop(f"there is no config file {given.split(':')[0]}; configs/ holds those there are", 2)
    try:
        rest = FLAGS(argv)
        config = FLAGS.config
    except AttributeError as error:
        stop(f"{error}", 2)
    except Exception as error:
        if FLAGS.is_parsed() and FLAGS.traceback:
            raise
        stop(error, 2)
    bad = not_finite(config)
    if bad:
        stop(f"{bad} is not a finite number", 2)
    if len(rest) > 1:
        stop(f"unexpected argument {rest[1]}; flags are written --name=value", 2)
    return rest


def main(_: list[str]) -> int:
    config, given = FLAGS.config, config_flags.get_config_filename(FLAGS["config"])
    name, _, variant = given.partition(":")
    workdir = Path(FLAGS.workdir or Path("runs") / "_".join(filter(None, (Path(name).stem, variant))))
    try:
        seeds = [int(seed) for seed in FLAGS.seeds] if FLAGS.seeds else [int(config.seed)]
    except ValueError:
        stop(f"--seeds={','.join(FLAGS.seeds)} holds something that is no whole number", 2)
    if len(set(seeds)) < len(seeds):
        stop(f"--seeds={','.join(FLAGS.seeds)} names a seed twice", 2)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)
    import jax

    if FLAGS.compilation_cache:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mgan_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    try:
        module = f"mgan_jax.experiments.{config.experiment}"
        try:
            run = importlib.import_module(module).run
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise ValueError(f"config.experiment is {config.experiment!r}, and there is no such experiment") from None
        run(config, workdir, FLAGS.data_dir, seeds, FLAGS.overwrite, FLAGS.progress)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        if FLAGS.traceback:
            raise
        stop(error, 1)
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
