"""Runs the experiment that a config names: `python main.py --config=configs/mgan.py`."""

import contextlib
import difflib
import math
import os
import re
import sys
import textwrap
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

USAGE = """python main.py --config=configs/NAME.py[:VARIANT] [flags]

  --config=FILE            the experiment; a variant follows a colon, as in configs/mgan.py:mnist
  --config.a.b=VALUE       replaces one value of the configuration
  --workdir=FOLDER         results and checkpoints (default: runs/NAME or runs/NAME_VARIANT)
  --data_dir=FOLDER        IDX files, or data sets prepared by TFDS (default: TFDS's own folder)
  --seeds=0,1,2            runs the experiment for each seed; reports mean and spread
  --devices=all            shares batches and images among so many devices (default: 1)
  --distributed            one process of several that share them; start the same command on every host (see README.md)
  --overwrite              starts anew where the folder holds a run
  --noprogress             no progress bars
  --nocompilation_cache    compiles everything again at every start
  --traceback              shows where an error arose
  --helpfull               all flags, those of the libraries too

The same command again continues a run that was stopped.
{configs}"""

CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment", lock_config=True)
flags.DEFINE_string("workdir", None, "folder of results and checkpoints")
flags.DEFINE_string("data_dir", None, "folder of IDX files or of prepared TFDS sets")
flags.DEFINE_list("seeds", None, "seeds to run")
flags.DEFINE_string("devices", None, "how many devices share the work, or all")
flags.DEFINE_bool("distributed", False, "one process of several, which share the work on all their devices")
flags.DEFINE_bool("overwrite", False, "start anew")
flags.DEFINE_bool("progress", True, "show progress bars")
flags.DEFINE_bool("compilation_cache", True, "keep compiled programs in the user's cache folder")
flags.DEFINE_bool("traceback", False, "show where an error arose")
FLAGS = flags.FLAGS


def stop(message: object, status: int) -> None:
    """Ends the program with one line."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


def not_finite(value: object, name: str = "config") -> str | None:
    """Name of a number in a configuration, or in its lists, that is NaN or infinite; None where there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else name
    if isinstance(value, dict):
        parts = [(part, f"{name}.{key}") for key, part in value.items()]
    else:
        parts = [(part, f"{name}[{i}]") for i, part in enumerate(value)] if isinstance(value, (list, tuple)) else []
    return next(filter(None, (not_finite(*part) for part in parts)), None)


def wrong_item() -> str | None:
    """An override of a list of numbers by something else, which absl takes for text, in words; None where there is none."""
    for name, value in FLAGS["config"].override_values.items():
        before = FLAGS[f"config.{name}"].default
        for item in value if isinstance(value, tuple) and isinstance(before, list) else ():
            if before and isinstance(item, str) != isinstance(before[0], str):
                return f"--config.{name}: {item!r} is not of the kind of {before[0]!r}, which it replaces"
    return None


def given_config(argv: list[str]) -> str | None:
    """What the command line says behind --config, before any flag is parsed."""
    for flag, following in zip(argv[1:], [*argv[2:], ""], strict=False):
        name, equals, value = flag.lstrip("-").partition("=")
        if flag.startswith("-") and name == "config":
            return value if equals else following
    return None


def explain(error: Exception, given: str, argv: list[str]) -> str:
    """A mistake in the flags or in the config file in words."""
    # An override that no field answers to raises an error whose text is: 'nmae'\nDid you mean "name" instead of "nmae"?
    text = str(error).replace("\\'", "'")
    wrong = re.match(r"[\"']*(\w+)", text)
    overrides = [flag.lstrip("-").partition("=")[0] for flag in argv[1:] if flag.startswith(("-config.", "--config."))]
    named = [name for name in overrides if wrong and wrong[1] in name.split(".")]
    if isinstance(error, (AttributeError, KeyError)) and named:
        close = re.search(r'Did you mean "(.+?)"', text)
        return f"--{named[0]}: the configuration has no {wrong[1]!r}" + (f"; did you mean {close[1]!r}?" if close else "")
    if "Error whilst parsing config file" in text:
        return f"{given}: {text.strip().splitlines()[-1].removeprefix('ValueError: ')}"
    if isinstance(error, flags.Error):
        return str(error)
    return f"{given}: {'' if isinstance(error, ValueError) else f'{type(error).__name__}: '}{error}"


def read_seeds(config: ConfigDict) -> list[int]:
    """The seeds of --seeds, or the configuration's own."""
    named = FLAGS.seeds or [config.seed]
    shown = f"--seeds={','.join(FLAGS.seeds)}" if FLAGS.seeds else f"config.seed={config.seed}"
    try:
        seeds = [int(seed) for seed in named]
    except (TypeError, ValueError):
        stop(f"{shown} holds something that is no whole number", 2)
    if min(seeds) < 0 or max(seeds) >= 2**32:
        stop(f"{shown} is out of range; seeds are 0, 1, 2, ... below 2^32", 2)
    if len(set(seeds)) < len(seeds):
        stop(f"{shown} names a seed twice", 2)
    return seeds


def parse(argv: list[str]) -> list[str]:
    """Reads the flags, the configuration and its overrides, so that every mistake in them ends here, in one line."""
    here = Path(__file__).parent
    if {"--help", "-help", "-h", "--helpshort"} & set(argv):
        configs = sorted(path.stem for path in (here / "configs").glob("*.py"))
        print(USAGE.format(configs=textwrap.fill(f"Configurations: {', '.join(configs)}", 120, subsequent_indent="  ")))
        sys.exit(0)
    given = given_config(argv)
    if given is None and not {"--helpfull", "-helpfull"} & set(argv):
        stop("no experiment is named; pass for example --config=configs/mgan.py, or --help", 2)
    file = (given or "").split(":")[0]
    if given is not None and not Path(file).is_file():
        close = difflib.get_close_matches(Path(file).stem, [path.stem for path in (here / "configs").glob("*.py")], 1)
        hint = f"did you mean configs/{close[0]}.py?" if close else "configs/ holds those there are"
        stop(f"there is no config file {file!r}; {hint}", 2)
    try:
        rest = FLAGS(argv)
        bad = not_finite(FLAGS.config.to_dict())
        wrong = wrong_item()
        absent = [name for name in ("experiment", "seed") if name not in FLAGS.config]
    except Exception as error:
        if "--traceback" in argv:
            raise
        stop(explain(error, given, argv), 2)
    if bad:
        stop(f"{bad} is not a finite number", 2)
    if wrong:
        stop(wrong, 2)
    if absent:
        stop(f"{given}: the configuration has no {absent[0]!r}", 2)
    if len(rest) > 1:
        stop(f"unexpected argument {rest[1]}; flags are written --name=value", 2)
    read_seeds(FLAGS.config)
    return rest


def run(config: ConfigDict, workdir: Path) -> int:
    """Imports jax and the experiment, runs it, and returns the exit status: 3 where a line of a report's sanity does not hold."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)
    import jax

    from mgan_jax import devices
    from mgan_jax.build import experiment
    from mgan_jax.experiments.options import Options
    from mgan_jax.experiments.sanity import violated

    if FLAGS.compilation_cache:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mgan_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if FLAGS.distributed:
        devices.join()
    mesh = devices.make_mesh(FLAGS.devices or ("all" if FLAGS.distributed else "1"))
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(sys.stdout if devices.is_primary() else nowhere):
        options = Options(workdir, FLAGS.data_dir, tuple(read_seeds(config)), FLAGS.overwrite, FLAGS.progress, mesh)
        done = experiment(config.experiment)(config, options)
        broken = [claim for results in (done if isinstance(done, list) else [done]) for claim in violated(results or {})]
        if broken:
            print(f"does not hold: {'; '.join(dict.fromkeys(broken))}")
    return 3 if broken else 0


def main(_: list[str]) -> int:
    name, _, variant = config_flags.get_config_filename(FLAGS["config"]).partition(":")
    workdir = Path(FLAGS.workdir or Path("runs") / "_".join(filter(None, (Path(name).stem, variant))))
    try:
        return run(FLAGS.config, workdir)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        if FLAGS.traceback:
            raise
        stop(error, 1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
