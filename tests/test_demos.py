"""Every demo agrees with its exact solution, and its figures can be drawn."""

import ast
import runpy
from pathlib import Path

import pytest

DEMOS = sorted((Path(__file__).parents[1] / "demos").glob("[0-9]*.py"))
CHEAP = [path for path in DEMOS if path.name[:2] in ("01", "06")]


def named(paths):
    return [pytest.param(path, id=path.stem) for path in paths]


def test_there_are_demos():
    assert len(DEMOS) >= 9
    assert len(CHEAP) == 2


@pytest.mark.parametrize("path", named(DEMOS))
def test_demo_agrees_with_its_exact_solution(path):
    outcome = runpy.run_path(str(path))["main"](plot=False)
    assert 0 <= outcome["error"] <= outcome["tolerance"]
    assert outcome["what"]


@pytest.mark.parametrize("path", named(CHEAP))
def test_demo_draws_its_figure(path, tmp_path):
    runpy.run_path(str(path))["main"](plot=True, out=tmp_path)
    (figure,) = tmp_path.glob("*.png")
    assert figure.name == f"{path.stem}.png"
    assert 10_000 < figure.stat().st_size < 1_500_000


@pytest.mark.parametrize("path", named(DEMOS))
def test_demo_says_its_equation_and_its_reference(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert "doi:" in text
    assert "=" in text.splitlines()[2]
    assert "# %%" in path.read_text()
