"""Sphinx configuration."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.abspath(".."))
os.environ.setdefault("MPLBACKEND", "Agg")

import flows

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
numpydoc_show_class_members = False
exclude_patterns = ["_build", "gallery/*.ipynb"]
html_theme = "pydata_sphinx_theme"
html_title = "flows"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "navbar_align": "left"}

sphinx_gallery_conf = {
    "examples_dirs": "../demos",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
}
suppress_warnings = ["config.cache"]
