"""Attacks that the command line leaves out."""

import pytest
from ml_collections import ConfigDict

from mgan_jax.experiments.options import without_skipped


def test_skipped_attacks_are_left_out_and_the_config_is_left_alone():
    config = ConfigDict({"skip": ("pgd",), "attacks": {"advgan": {}, "pgd": {}}}).lock()
    assert list(without_skipped(config).attacks) == ["advgan"]
    assert set(config.attacks) == {"advgan", "pgd"}


def test_a_skipped_attack_that_there_is_not_is_a_mistake():
    with pytest.raises(ValueError, match="'pdg'; choose from advgan"):
        without_skipped(ConfigDict({"skip": ("pdg",), "attacks": {"advgan": {}}}))
