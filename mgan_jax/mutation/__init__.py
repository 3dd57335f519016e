"""Mutation operators (DeepMutation, Ma et al. 2018, arXiv:1805.05206): `mutate(key, variables) -> variables`.

One operator a file; each is written for one mutant, and `population` makes the many.
"""

OPERATORS = {
    "GF": "gaussian_fuzzing",
    "WS": "weight_shuffling",
    "NEB": "neuron_effect_blocking",
    "NAI": "neuron_activation_inverse",
    "NS": "neuron_switch",
    "LD": "layer_deactivation",
    "LA": "layer_addition",
    "AFR": "activation_function_removal",
}
"""The papers' abbreviations, used in tables and reports, and the modules here."""
