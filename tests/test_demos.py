"""Every demo agrees with its exact solution, and its figures can be drawn."""

import ast
import runpy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from flows import plotting

DEMOS = sorted((Path(__file__).parents[1] / "demos").glob("[0-9]*.py"))
# Those that run for seconds draw with the functions that the others draw with.
CHEAP = [path for path in DEMOS if path.name[:2] not in ("04", "05", "08", "09")]


def named(paths):
    return [pytest.param(path, id=path.stem) for path in paths]


def test_there_are_demos():
    assert len(DEMOS) >= 9
    assert len(CHEAP) == len(DEMOS) - 4


@pytest.mark.parametrize("path", named(DEMOS))
def test_demo_agrees_with_its_exact_solution(path):
    outcome = runpy.run_path(str(path))["main"](plot=False)
    assert 0 <= outcome["error"] <= outcome["tolerance"]
    assert outcome["what"]


@pytest.mark.parametrize("path", named(CHEAP))
def test_demo_draws_a_figure_that_can_be_read(path, tmp_path, monkeypatch):
    figures, save = [], plotting.save

    def watched(picture, name, out, **options):
        figures.append(np.ravel(picture)[0].figure)
        return save(picture, name, out, **options)

    monkeypatch.setattr(plotting, "save", watched)
    runpy.run_path(str(path))["main"](plot=True, out=tmp_path)
    (file,) = tmp_path.glob("*.png")
    assert file.name == f"{path.stem}.png"
    assert 10_000 < file.stat().st_size < 1_500_000
    for figure in figures:
        figure.draw_without_rendering()
        for ax in figure.axes:
            assert ax.get_xlabel() or not len(ax.get_xticks()), "x without a name"
            assert ax.get_ylabel() or not len(ax.get_yticks()), "y without a name"
        boxes = [ax.get_tightbbox() for ax in figure.axes]
        for one, other in combinations(boxes, 2):
            assert not one.overlaps(other), "labels or legends run into each other"
        for box in boxes:
            assert box.x0 >= -1, "cut off at the left"
            assert box.y0 >= -1, "cut off below"
            assert box.x1 <= figure.bbox.x1 + 1, "cut off at the right"
            assert box.y1 <= figure.bbox.y1 + 1, "cut off above"


@pytest.mark.parametrize("path", named(DEMOS))
def test_demo_says_its_equation_and_its_reference(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert "doi:" in text
    assert "=" in text.splitlines()[2]
    assert "# %%" in path.read_text()
