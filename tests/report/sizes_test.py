"""Headlines carry their numbers of images, and say where these are too few."""

import pytest

from mgan_jax.report import comparison, defenses, detectors, fooling, page, transfer_tables
from mgan_jax.report.sizes import FEW, between, sized
from mgan_jax.report.tables import attack_table, verdict


def test_sizes_in_words():
    assert between([5.0, None, 7]) == "5 to 7" and between([None]) == "–"
    assert sized([FEW]) == f"n = {FEW}" and sized([2, 300], "N") == "N = 2 to 300 (fewer than 50, too few to say anything)"


@pytest.mark.parametrize(("count", "few"), [(2, True), (200, False)])
def test_every_headline_says_of_how_many_images_it_is(example, count, few):
    results, _ = example()
    rows = [{**row, "num_adversarial": count, "num_images": count} for row in results["rows"]]
    said = verdict({**results, "rows": rows}) + [card["note"] for card in page.cards({**results, "rows": rows})]
    common = {"norm": "linf", "epsilon": 0.3, "aware": True, "num_images": count}
    worst = {**common, "knowledge": "white box", "attacks": ["pgd"], "withstand_rate": 0.5}
    said += comparison.sentences({"worst_cases": [worst], "sanity": []})[:1]
    adaptive = {**common, "detector": "sprt", "undetected_rate": 0.1}
    alone = {"attack": "mgan", "num_images": count, "success_rate": 0.9, "passes_joint_rate": 0.5}
    said += detectors.sentences({"rows": [], "worst_cases": [adaptive], "adaptive_rows": [adaptive], "attack_rows": [alone]})
    defended = {**common, "defense": "squeezing", "robust_accuracy": 0.5, "attacks": ["pgd"]}
    said += defenses.sentences({"worst_cases": [defended], "checklists": {}})
    cell = {"attack": "pgd", "source": "a", "destination": "b", "transfer_rate": 0.5, "num_transferable": count}
    destroyed = {**cell, "destination": "a", "transformation": "noise", "strength": 1.0, "destruction_rate": 0.5,
                 "num_adversarial": count}  # fmt: skip
    said += transfer_tables.sentences({"destinations": [{"name": "b", "kind": "network"}], "rows": [cell],
                                       "destruction_rows": [destroyed]})  # fmt: skip
    noise = {
        "network": "a",
        "form": "one step",
        "confidence": 0.9,
        "class": 0,
        "share": 0.5,
        "num_images": count,
        "hardest": True,
    }
    config = {"quadratic": {"confidence": 0.9}}
    said += fooling.sentences({"rows": [noise], "quadratic_rows": [], "config": config})[:1]
    assert len(said) >= 12
    for sentence in said:
        assert f"= {count}" in sentence and ("too few to say anything" in sentence) == few, sentence


def test_what_is_misclassified_stands_beside_the_clean_error_and_the_success(example):
    results, _ = example()
    card = page.cards(results)[0]
    assert "clean 1.0 %" in card["note"] and all("success 90.0 %" in line["reach"] for line in card["lines"])
    _, heads, lines = attack_table(results)
    assert lines[0][:2] == ["clean", "1.00"] and heads[:2] == ["attack", "misclassified %"] and "success %" in heads
