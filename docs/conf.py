"""Sphinx configuration."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("MPLBACKEND", "Agg")

from sphinx_gallery.scrapers import figure_rst  # noqa: E402

import flows  # noqa: E402

project = "flows"
author = "The flows developers"
copyright = "2026, the flows developers"
release = version = flows.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/*.ipynb"]
html_theme = "pydata_sphinx_theme"
html_title = "flows"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "navbar_align": "left"}

DEMOS = HERE / "_build" / "demos"


def with_literal_formulas(lines: list[str]) -> list[str]:
    """An indented paragraph under a flush one is a formula: keep it as typed."""
    marked, above = [], ""
    for number, line in enumerate(lines):
        after_blank = number > 0 and not lines[number - 1].strip()
        flush = above[:1] not in ("", " ", ".") and not above.endswith("::")
        if after_blank and flush and line.startswith("    "):
            marked += ["::", ""]
        above = line if line.strip() else above
        marked.append(line)
    return marked


def with_bars(lines: list[str]) -> list[str]:
    """Bars are absolute values, not substitutions of reStructuredText."""
    escaped, literal = [], False
    for line in lines:
        literal = line.endswith("::") or (literal and not line[:1].strip())
        code = literal or line.lstrip().startswith((">>>", "..."))
        # Between backquotes a backslash would be shown.
        parts = [line] if code else re.split(r"(`+[^`]*`+)", line)
        escaped.append(
            line
            if code
            else "".join(p if p[:1] == "`" else p.replace("|", r"\|") for p in parts)
        )
    return escaped


def write_demos() -> None:
    """Copy the demos in the form of the gallery.

    There the docstring opens with an underlined title, and the name of a cell stands
    on a line of its own.
    """
    shutil.rmtree(DEMOS, ignore_errors=True)
    DEMOS.mkdir(parents=True)
    shutil.copy(HERE.parent / "demos" / "README.rst", DEMOS)
    for demo in sorted((HERE.parent / "demos").glob("[0-9]*.py")):
        docstring, code = demo.read_text(encoding="utf-8").split('\n"""\n', 1)
        title, text = docstring.removeprefix('"""').split("\n", 1)
        lines = with_literal_formulas([title, *text.split("\n")])[1:]
        text = "\n".join(with_bars(lines))
        head = f'r"""\n{title.rstrip(".")}\n{"=" * len(title)}\n{text}\n"""\n'
        cells = re.sub(r"(?m)^# %% +(?=\S)", "# %%\n# ", code)
        (DEMOS / demo.name).write_text(head + cells, encoding="utf-8")


def written_figures(block: Any, variables: dict[str, Any], gallery: Any) -> str:
    """Image scraper: the figures that a demo has written since the last cell."""
    seen, found = variables.setdefault("_seen", set()), []
    for path in sorted(DEMOS.glob("figures/*")):
        name = Path(variables["src_file"]).stem
        if path.stem.startswith(name[:2]) and path not in seen:
            seen.add(path)
            target = Path(next(variables["image_path_iterator"]))
            found.append(str(target.with_suffix(path.suffix)))
            shutil.copy(path, found[-1])
    return figure_rst(found, gallery["src_dir"])


write_demos()
sphinx_gallery_conf = {
    "examples_dirs": "_build/demos",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "image_scrapers": (written_figures,),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
}


def setup(app: Any) -> None:
    """Read formulas in docstrings as typed; numpydoc comes after, at 500."""

    def process(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
        lines[:] = with_bars(with_literal_formulas(lines))

    app.connect("autodoc-process-docstring", process, priority=400)


# The configuration holds functions, which are not cached; that is fine.
suppress_warnings = ["config.cache"]
