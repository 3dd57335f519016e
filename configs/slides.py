"""The slides' table: one MGAN an operator, WS, NAI, NS and GF, beside AdvGAN.

    python main.py --config=configs/slides.py                             scikit-learn's digits
    python main.py --config=configs/slides.py:mnist --data_dir=FOLDER     MNIST

"Perplexing Image Recognition Systems Using Mutation Generative Adversarial Networks": 96.83, 93.41, 98.21 and 97.23 %
misclassified, LCR 1.06, 1.08, 1.12 and 1.03 times the normal one.
"""

import runpy
from pathlib import Path


def get_config(variant: str = "digits"):
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    config.attacks.mgan.trained_on = ("WS", "NAI", "NS", "GF")
    config.skip = ("advgan_margin", "pgd", "pgd_mutants")
    return config
