"""The report's tables as text: every number with its size, spread or interval, and what the numbers say, in sentences."""

from typing import Any

import numpy as np

from mgan_jax.report.sizes import sized

Table = tuple[str, list[str], list[list[str]]]
"""Title, column names, lines of text."""

CONTROLS = ("advgan_margin", "pgd", "pgd_mutants")


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent; an en dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A number; an en dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def measure(row: dict, name: str, digits: int, scale: float = 1.0, intervals: bool = False) -> str:
    """A row's measure times `scale`, with the deviation over seeds, or its interval where wanted, where the row has them."""
    value = row.get(name)
    if value is None:
        return "–"
    text = f"{scale * value:.{digits}f}"
    if row.get(f"{name}_std") is not None:
        text += f"±{scale * row[f'{name}_std']:.{digits}f}"
    for end in ("_ci95", "_ci99") if intervals else ():
        bounds = row.get(f"{name}{end}")
        if bounds is not None and None not in bounds:
            text += " [{}, {}]".format(*(f"{scale * bound:.{digits}f}" for bound in bounds))
    return text


def part(row: dict, name: str, key: str, digits: int, scale: float = 1.0) -> str:
    """As `measure`, of a measure that is several numbers by name, the one of name `key`."""
    return measure({"value": row[name][key], "value_std": row.get(f"{name}_std", {}).get(key)}, "value", digits, scale)


def label(row: dict) -> str:
    """An attack's name, with the operators it was trained on where these are not all."""
    parts = (row["attack"], None if row.get("trained_on") == "all" else row.get("trained_on"), row.get("variant"))
    return " ".join(str(part) for part in parts if part is not None)


def protocol_rows(results: dict) -> dict[str, list[dict]]:
    """{protocol: its rows, operator by operator}."""
    rows = [row for row in results["rows"] if row.get("protocol")]
    order = list(dict.fromkeys(row.get("operator") for row in rows))
    rows.sort(key=lambda row: order.index(row.get("operator")))
    return {name: [row for row in rows if row["protocol"] == name] for name in dict.fromkeys(r["protocol"] for r in rows)}


def paired(rows: list[dict]) -> dict[str, dict[str, dict]]:
    """{operator: {attack: row}} of one protocol, MGAN first; a generator of the operator itself is preferred to one of all."""
    found: dict[str, dict[str, dict]] = {}
    for wanted in (None, "all", "own"):
        for row in rows:
            trained_on = "own" if row.get("trained_on") == row["operator"] else row.get("trained_on")
            if trained_on == wanted and row.get("variant") is None:
                found.setdefault(row["operator"], {})[row["attack"]] = row
    attacks, operators = (list(dict.fromkeys(row[name] for row in rows)) for name in ("attack", "operator"))
    attacks.sort(key=lambda name: name != "mgan")
    return {o: {attack: found[o][attack] for attack in attacks if attack in found[o]} for o in operators if o in found}


def described(protocol: str, rows: list[dict]) -> str:
    """A protocol's name, rate and filter."""
    ratio = rows[0].get("min_accuracy_ratio")
    kept = f"mutants of at least {ratio:g} of the target's accuracy" if ratio else "all mutants"
    return f"{protocol}: rate {rows[0]['rate']:g}, {kept}"


def attack_table(results: dict) -> Table:
    """A line an attack: what needs no mutants."""
    first: dict[str, dict] = {}
    for row in results["rows"]:
        first.setdefault(label(row), row)
    heads = ["attack", "misclassified %", "n", "success %", "n", "L-inf", "L2", "L0", "margin", "label entropy, bits",
             "k-NN reads original %"]  # fmt: skip
    lines = [
        [
            name, measure(row, "misclassification", 2, 100), number(row.get("num_images"), 0),
            measure(row, "success_rate", 2, 100), number(row.get("num_clean_correct"), 0), measure(row, "linf", 3),
            measure(row, "l2", 2), measure(row, "l0", 0), measure(row, "mean_margin", 1), measure(row, "label_entropy", 2),
            measure(row, "judge_original_class", 1, 100),
        ]
        for name, row in first.items()
    ]  # fmt: skip
    return "Attacks", heads, lines


def tables(results: dict, full: bool = False) -> list[Table]:
    """The table of attacks, then one a protocol with a line an operator and attack.

    MGANs that leave an operator out stand in `threat_table`.

    Args:
      results: as in `report.results`.
      full: with intervals, the counts of mutants drawn, and the sequential test's details.
    """
    found = [attack_table(results)]
    for protocol, rows in protocol_rows(results).items():
        heads = ["operator", "attack", "M", "N", "LCR %", "normal %", "class-matched %", "ratio", "AUROC", "TPR high %",
                 "TPR low %", "SPRT - FP"]  # fmt: skip
        more = ["LCR - MGAN's", "SPRT detects %", "SPRT FP %", "undecided %", "mutants used", "tried", "qualified"]
        lines = []
        for row in [row for row in rows if not (row.get("trained_on") or "").startswith("without ")]:
            line = [row["operator"], label(row), number(row.get("num_mutants"), 0), number(row.get("num_adversarial"), 0)]
            line += [measure(row, name, 2, 100, full) for name in ("lcr", "normal_lcr", "class_matched_normal_lcr")]
            line += [measure(row, name, 2, 1, full) for name in ("lcr_ratio", "auroc")]
            line += [measure(row, name, 1, 100) for name in ("tpr_at_5fpr", "tpr_at_5fpr_low")] + [
                measure(row, "sprt_excess", 1, 100)
            ]
            if full:
                line += [measure(row, "lcr_minus_mgan", 2, 100, True)]
                names = ("sprt_detection_rate", "sprt_false_positive_rate", "sprt_undecided")
                line += [measure(row, name, 1, 100) for name in names]
                line += [number(row.get(name), 0) for name in ("sprt_mutants_used", "tried", "qualified")]
            lines.append(line)
        found.append((f"Mutation testing, {described(protocol, rows)}", heads + more if full else heads, lines))
    return found


def slides_table(results: dict, protocol: str = "unfiltered") -> Table:
    """The table of MGAN's slides with our columns, a line an operator, from the rows of one protocol."""
    rows, lines, sizes = protocol_rows(results).get(protocol, []), [], []
    for operator, of in paired(rows).items():
        if "mgan" not in of or "advgan" not in of:
            continue
        mgan, both = of["mgan"], (of["mgan"], of["advgan"])
        sizes.append(number(mgan.get("num_images"), 0))
        lines.append([
            operator, number(mgan.get("num_mutants"), 0), number(mgan.get("num_adversarial"), 0),
            *(measure(row, "misclassification", 2, 100) for row in both), *(measure(row, "lcr", 2, 100) for row in both),
            measure(mgan, "normal_lcr", 2, 100), *(measure(row, "lcr_ratio", 2) for row in both), measure(mgan, "auroc", 2),
            measure(mgan, "tpr_at_5fpr", 1, 100), percent(mgan.get("sprt_excess")),
        ])  # fmt: skip
    heads = ["operator", "M", "N", "MGAN misclassified %", "AdvGAN misclassified %", "MGAN LCR %", "AdvGAN LCR %",
             "normal LCR %", "MGAN ratio", "AdvGAN ratio", "MGAN AUROC", "TPR at 5% FPR", "SPRT - FP"]  # fmt: skip
    title = f"The slides' table, {described(protocol, rows)}" if rows else f"The slides' table, {protocol}"
    images = f"; misclassified of {', '.join(dict.fromkeys(sizes))} images" if sizes else ""
    return title + images, heads, lines


def left_out_rows(rows: list[dict]) -> list[dict]:
    """Of the MGANs trained without one operator the rows of that operator, as rows of a loosened threat model."""
    chosen = [row for row in rows if row.get("operator") and row.get("trained_on") == f"without {row['operator']}"]
    return [{**row, "threat": f"{row['protocol']}, operator left out", "trained_on": "all"} for row in chosen]


def threat_table(results: dict) -> Table:
    """A line a loosened threat and attack: medians and ranges over the operators."""
    groups: dict[tuple, list[dict]] = {}
    for row in [*left_out_rows(results["rows"]), *results.get("threat_rows", [])]:
        filtered = "" if "detector" in row["threat"] or "left out" in row["threat"] else f", {row['protocol']}"
        groups.setdefault((row["threat"] + filtered, label(row)), []).append(row)

    def over(rows: list[dict], name: str, digits: int, scale: float = 1.0) -> str:
        values = [scale * row[name] for row in rows if row.get(name) is not None]
        if not values:
            return "–"
        low, middle, high = (f"{value:.{digits}f}" for value in (min(values), np.median(values), max(values)))
        return middle if low == high else f"{middle} ({low} to {high})"

    heads = ["threat", "attack", "operators", "misclassified %", "ratio", "AUROC", "TPR high %", "TPR low %"]
    lines = [
        [
            threat, name, ", ".join(row["operator"] for row in rows), over(rows, "misclassification", 1, 100),
            over(rows, "lcr_ratio", 2), over(rows, "auroc", 2), over(rows, "tpr_at_5fpr", 1, 100),
            over(rows, "tpr_at_5fpr_low", 1, 100),
        ]
        for (threat, name), rows in groups.items()
    ]  # fmt: skip
    return "The threat model loosened", heads, lines


def lcr_by_operator(results: dict, protocol: str = "unfiltered") -> dict[str, dict[str, float]]:
    """{attack: {operator: LCR}} of one protocol, on the same mutants."""
    rates: dict[str, dict[str, float]] = {}
    for operator, of in paired(protocol_rows(results).get(protocol, [])).items():
        for name, row in of.items():
            if row.get("lcr") is not None:
                rates.setdefault(name, {})[operator] = row["lcr"]
    return rates


def answers(results: dict) -> dict[str, dict[str, Any]]:
    """For each attack: a row of its own, {operator: misclassification}, LCR ratios, unfiltered, and AUROCs, qualified."""
    found: dict[str, dict[str, Any]] = {}
    for protocol, measured, name in (("unfiltered", "lcr_ratio", "ratios"), ("qualified", "auroc", "areas")):
        for operator, of in paired(protocol_rows(results).get(protocol, [])).items():
            for attack, row in of.items():
                one = found.setdefault(attack, {"row": row, "misclassified": {}, "ratios": {}, "areas": {}, "counts": []})
                if row.get("misclassification") is not None:
                    one["misclassified"][operator] = row["misclassification"]
                if row.get(measured) is not None:
                    one[name][operator] = row[measured]
                    one["counts"].append(row.get("num_adversarial"))
    return found


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f} over {len(values)} operators)"


def verdict(results: dict) -> list[str]:
    """What the numbers say, in sentences: MGAN against normal images, against AdvGAN, and against the best control."""
    sentences, found = [], answers(results).get("mgan", {"ratios": {}, "areas": {}, "counts": []})
    images = sized(found["counts"], "N")
    for name, text, low, high in (
        ("ratios", "Unfiltered mutants: MGAN's LCR over the normal LCR has the median", 0.9, 1.1),
        ("areas", "Qualified mutants: the AUROC of telling MGAN's images by their LCR has the median", 0.45, 0.55),
    ):
        values = list(found[name].values())
        if values:
            inside = sum(low <= round(value, 2) <= high for value in values)
            sentences.append(
                f"{text} {spread(values)}; {inside} of {len(values)} lie between {low:.2f} and {high:.2f}; {images}."
            )
    rates = lcr_by_operator(results)

    def means(first: str, second: str) -> tuple[float, float]:
        both = [name for name in rates[first] if name in rates[second]]
        return tuple(float(np.mean([rates[attack][name] for name in both])) for attack in (first, second))

    if rates.get("mgan", {}).keys() & rates.get("advgan", {}).keys():
        mgan, advgan = means("mgan", "advgan")
        if advgan > 0:
            sentences.append(
                f"MGAN's mean LCR over the operators is {mgan / advgan:.2f} of AdvGAN's on the same unfiltered mutants; {images}."
            )
    pairs = {name: means("mgan", name) for name in CONTROLS if rates.get("mgan", {}).keys() & rates.get(name, {}).keys()}
    if pairs:
        best = min(pairs, key=lambda name: pairs[name][1])
        mgan, control = pairs[best]
        sentence = f"The most stable control is {best}: mean LCR {percent(control, 2)} %, MGAN's {percent(mgan, 2)} %; {images}."
        bounds = [
            of[best].get("lcr_minus_mgan_ci95") for of in paired(protocol_rows(results)["unfiltered"]).values() if best in of
        ]
        bounds = [bound for bound in bounds if bound is not None]
        if bounds:
            more, less = sum(low > 0 for low, _ in bounds), sum(high < 0 for _, high in bounds)
            sentence += (
                f" By operator, with 95 % confidence, MGAN is the more stable under {more} and {best} under {less} of "
                f"{len(bounds)}."
            )
        stable = [name for name, (own, other) in pairs.items() if other <= own]
        blind = " and ".join(name for name in stable if name != "pgd_mutants")
        if blind:
            sentence += f" Without seeing a mutant, {blind} gets at least as stable: that is confidence, not MGAN alone."
        if "pgd_mutants" in stable:
            sentence += " Without a generator, pgd_mutants gets at least as stable: mutants in the loss are enough for that."
        sentences.append(sentence)
    return sentences
