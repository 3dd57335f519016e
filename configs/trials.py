"""Changes to configs/mgan.py beside one another: the same target, tested on half of the validation images.

    python main.py --config=configs/trials.py:digits --seeds=0,1
    python main.py --config=configs/trials.py:mnist --data_dir=FOLDER --seeds=0,1 --config.rows="two levels"

A trial is `name: {section: {key: value}}`, what it changes; add yours below. `rows`: those that are run, all where it is empty.
Variants: digits, mnist, smoke.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def of_mgan(**arguments: float | str) -> dict:
    """A trial that changes these arguments of MGAN."""
    return {"attacks": {"mgan": {"arguments": arguments}}}


def get_config(variant: str = "digits") -> ConfigDict:
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    config.experiment = "trials"
    config.skip = tuple(name for name in config.attacks if name != "mgan")
    config.testing.operators = tuple(name for name in config.testing.operators if name not in ("LA", "AFR"))
    config.testing.split = "validation"
    config.testing.num_mutants = config.testing.num_validation_mutants = 4 if variant == "smoke" else 20
    config.rows = ()
    config.trials = ConfigDict({
        "as_it_is": {},
        "three levels": {"generator": {"widths": (8, 16, 32)}},
        "two levels": {"generator": {"widths": (16, 32)}},
        "fewer labels": of_mgan(target_entropy=1.2),
        "more labels": of_mgan(target_entropy=2.0),
    } if variant != "smoke" else {"as_it_is": {}}, sort_keys=False)  # fmt: skip
    return config
