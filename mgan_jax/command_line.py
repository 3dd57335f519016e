"""What a command line says: its flags, the configuration and its overrides; every mistake in them is one line."""

import difflib
import math
import re
import sys
import textwrap
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

USAGE = """python main.py --config=configs/NAME.py[:VARIANT] [flags]

  --config=FILE            the experiment; a variant follows a colon, as in configs/mgan.py:mnist
  --config.a.b=VALUE       replaces one value of the configuration; a number may be a fraction, 8/255
  --workdir=FOLDER         results and checkpoints (default: runs/NAME or runs/NAME_VARIANT)
  --data_dir=FOLDER        IDX files, or data sets prepared by TFDS (default: TFDS's own folder)
  --seeds=0,1,2            runs the experiment for each seed; reports mean and spread
  --devices=all            shares batches and images among so many devices (default: 1)
  --distributed            one process of several that share them; start the same command on every host (see README.md)
  --overwrite              starts anew where the folder holds a run
  --noprogress             no progress bars
  --nocompilation_cache    compiles everything again at every start
  --traceback              shows where an error arose
  --flagfile=FILE          reads flags from a file, one a line
  --helpfull               all flags, those of the libraries too

The same command again continues a run that was stopped.
{configs}"""

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

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
FRACTION = re.compile(rf"(?<![\w./'\"])({NUMBER})\s*/\s*({NUMBER})(?![\w./'\"])")


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


def joined(argv: list[str]) -> list[str]:
    """The command line, `--config VALUE` and `--config.a.b VALUE` written with = between them."""
    result: list[str] = []
    for argument in argv:
        waiting = result and re.fullmatch(r"--?config(\.[\w.\[\]]+)?", result[-1])
        if waiting and (waiting[1] is None or not argument.startswith("-")):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def with_home(argv: list[str]) -> list[str]:
    """The command line with the home folder in place of ~ in the name of the config file."""
    return [re.sub(r"(?<=config=)~.*", lambda found: str(at_home(found[0], "config")), argument) for argument in argv]


def at_home(path: str, flag: str) -> Path:
    """The path of a flag, ~ and ~NAME replaced by the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        stop(f"--{flag}={path}: there is no home folder for {path.split('/')[0]}", 2)


def with_decimals(argv: list[str], given: str | None) -> list[str]:
    """The command line with decimals in place of fractions such as 8/255, wherever an override is no text.

    Args:
      argv: the command line.
      given: the config file and variant, which tell the type of what is replaced.
    """

    def decimal(found: re.Match) -> str:
        return repr(float(found[1]) / float(found[2])) if float(found[2]) else found[0]

    result, config = [], None
    for argument in argv:
        override = re.fullmatch(r"(--?config\.([^=]+)=)(.*)", argument, re.DOTALL)
        if override and FRACTION.search(override[3]):
            config = FLAGS["config"].parser.parse(given) if config is None else config
            if config_path.get_type(override[2], config, default_type=str) not in (str, int, bool):
                argument = override[1] + FRACTION.sub(decimal, override[3])
        result.append(argument)
    return result


def given_config(argv: list[str]) -> str | None:
    """What the command line says behind --config, before any flag is parsed."""
    return next((found[1] for argument in argv[1:] if (found := re.fullmatch(r"--?config(?:=(.*))?", argument))), None)


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
        return str(error).removeprefix("ERROR:: ")
    return f"{given}: {'' if isinstance(error, ValueError) else f'{type(error).__name__}: '}{error}"


def seeds_of(config: ConfigDict) -> list[int]:
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


def workdir_of(given: str) -> Path:
    """The folder of --workdir, or else one that is named after the config file and its variant."""
    if FLAGS.workdir:
        return at_home(FLAGS.workdir, "workdir")
    name, _, variant = given.partition(":")
    return Path("runs", "_".join(filter(None, (Path(name).stem, variant))))


def data_dir_of() -> str | None:
    """The folder of --data_dir; None where it is not given."""
    return FLAGS.data_dir and str(at_home(FLAGS.data_dir, "data_dir"))


def parse(argv: list[str]) -> list[str]:
    """Reads the flags, the configuration and its overrides, so that every mistake in them ends here, in one line.

    Args:
      argv: as `sys.argv`.

    Returns:
      The name of the program.
    """
    configs = Path(argv[0]).parent / "configs"
    if {"--help", "-help", "-h", "--helpshort"} & set(argv):
        names = ", ".join(sorted(path.stem for path in configs.glob("*.py")))
        print(USAGE.format(configs=textwrap.fill(f"Configurations: {names}", 120, subsequent_indent="  ")))
        sys.exit(0)
    try:
        argv = with_home(joined(FLAGS.read_flags_from_files(argv)))
    except (flags.Error, OSError, UnicodeDecodeError) as error:
        stop(f"--flagfile: {str(error).removeprefix('ERROR:: ')}", 2)
    # It looks for overrides in a list of its own, and as soon as it is defined.
    config_flags.DEFINE_config_file("config", None, "the experiment", lock_config=True, sys_argv=argv)
    given = given_config(argv)
    if given is None and not {"--helpfull", "-helpfull"} & set(argv):
        stop("no experiment is named; pass for example --config=configs/mgan.py, or --help", 2)
    file = (given or "").split(":")[0]
    if given is not None and not Path(file).is_file():
        close = difflib.get_close_matches(Path(file).stem, [path.stem for path in configs.glob("*.py")], 1)
        hint = f"did you mean configs/{close[0]}.py?" if close else "configs/ holds those there are"
        stop(f"there is no config file {file!r}; {hint}", 2)
    try:
        argv[:] = with_decimals(argv, given)
        rest = FLAGS(argv)
        bad = not_finite(FLAGS.config.to_dict())
        wrong = wrong_item()
        absent = [name for name in ("experiment", "seed") if name not in FLAGS.config]
    except Exception as error:
        if "--traceback" in argv:
            raise
        stop(explain(error, given, argv), 2)
    empty = [name for name in ("workdir", "data_dir", "seeds", "devices") if FLAGS[name].value in ("", [])]
    if empty:
        stop(f"--{empty[0]} is empty; give it a value, or leave it out", 2)
    if bad:
        stop(f"{bad} is not a finite number", 2)
    if wrong:
        stop(wrong, 2)
    if absent:
        stop(f"{given}: the configuration has no {absent[0]!r}", 2)
    if len(rest) > 1:
        stop(f"unexpected argument {rest[1]}; flags are written --name=value", 2)
    seeds_of(FLAGS.config)
    workdir_of(given)
    data_dir_of()
    return rest
