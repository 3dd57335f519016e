"""Attacks: `attack(key, variables, images, labels, targets=None) -> AttackResult`."""
