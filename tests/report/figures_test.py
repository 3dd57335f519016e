"""Every figure can be drawn of images of one and three channels, of one image, and of what is missing."""

import io

import numpy as np
import pytest

from mgan_jax.report import curves, figures, pictures


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("num_images", [1, 12])
def test_pictures_of_images(example, shape, num_images):
    _, material = example(shape, num_images)
    assert drawn(pictures.attack_grid(material)).startswith(b"\x89PNG")
    assert drawn(pictures.attack_rows(material)).startswith(b"\x89PNG")
    assert drawn(pictures.prediction_gallery(material)).startswith(b"\x89PNG")


def test_rows_of_attacks_show_the_same_images_and_fade_failures(example):
    _, material = example(num_images=9, attacks=(("pgd", None), ("advgan", None)))
    figure = pictures.attack_rows(material, ["pgd", "advgan"], 3)
    chosen = pictures.chosen_images(material, ["pgd", "advgan"], 3)
    assert len(figure.axes) == 3 * 3
    for column, i in enumerate(chosen):
        clean, *rows = figure.axes[3 * column : 3 * column + 3]
        np.testing.assert_array_equal(clean.images[0].get_array(), material.clean_images[i, ..., 0])
        for name, axis in zip(["pgd", "advgan"], rows, strict=True):
            made = material.adversarial[name]
            np.testing.assert_array_equal(axis.images[0].get_array(), made.images[i, ..., 0])
            assert axis.get_title() == pictures.read_as(made.probabilities[i], material.class_names)
            assert (axis.images[0].get_alpha() == 1.0) == made.success[i]


def test_the_grid_shows_different_classes_and_flipped_images_first(example):
    _, material = example(num_images=9)
    made = material.adversarial["mgan"]._replace(success=np.arange(9) >= 6)
    material = material._replace(labels=np.arange(9) % 3, adversarial={"mgan": made})
    assert pictures.chosen_images(material, ["mgan"], 8) == [6, 7, 8]
    assert len(pictures.chosen_images(material, ["mgan"], 2)) == 2


def test_measurements(example):
    results, material = example()
    rows = [{**row, "name": row["attack"]} for row in results["rows"][1:4]]
    assert drawn(figures.lcr_histograms(material.lcr))
    assert drawn(figures.roc_curves(material.lcr, {"GF": {"mgan": 0.123}}))
    assert drawn(figures.operator_ratios({"unfiltered": results["rows"][1:]}))
    assert drawn(curves.epsilon_curves(material.epsilon_rows))
    assert drawn(curves.training_curves(material.history))
    assert drawn(curves.label_histograms(rows, material.class_names))


def test_the_area_in_the_corner_is_that_of_the_rows_or_else_of_the_curve():
    rates = {"normal": np.array([0.0, 0.2]), "mgan": np.array([[0.1], [0.0]]), "pgd": np.array([[0.3, 0.2], [0.2, 0.0]])}
    texts = {text.get_text() for text in figures.roc_curves({"GF unfiltered 0.1": rates}, {"GF": {"mgan": 0.12}}).axes[0].texts}
    assert texts == {"mgan  0.12", "pgd  0.88"}


def test_only_the_mgan_of_the_panels_own_operator_is_drawn():
    rates = dict.fromkeys(("normal", "mgan", "mgan GF", "mgan WS", "pgd"), np.array([0.1]))
    assert set(figures.known({"GF x": rates})["GF x"]) == {"normal", "mgan", "mgan GF", "pgd"}


def test_colours_are_fixed_and_the_main_ones_differ():
    names = ("normal", "mgan", "advgan", "advgan_margin", "pgd", "pgd_mutants")
    assert len({figures.colour(name) for name in names}) == len(names)
    assert figures.colour("mgan GF") == figures.colour("mgan") and figures.colour("x") == figures.colour("x")


def test_an_answer_that_is_not_finite_is_read_as_no_class(example):
    names = ("a", "b")
    assert pictures.read_as(np.array([0.25, 0.75]), names) == "b  75 %"
    assert pictures.read_as(np.array([np.nan, 0.5]), names) == "no class"
    _, material = example(num_images=9)
    unread = material._replace(probabilities=np.full_like(material.probabilities, np.nan))
    figure = pictures.prediction_gallery(unread)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles and all(title.startswith("no class/") for title in titles)
