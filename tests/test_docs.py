"""What the documentation says is true: its code runs, its tables and links agree."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import flows as fl

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.rst")),
]
# Runs of a page that would take long, and what is run instead.
SHORTER = {
    "tutorial.rst": {
        "100_000": "2_000",
        "(0, 500)": "(0, 1)",
        "save_at=10.0": "save_at=0.5",
        "every=1000": "every=50",
    },
    "README.md": {"100_000": "2_000", "(0, 50)": "(0, 1)"},
}


def code_blocks(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    found = re.findall(r"^\.\. code-block:: python\n\n((?:(?: {4}.*)?\n)+)", text, re.M)
    return [re.sub(r"(?m)^ {4}", "", block) for block in found]


def table(path, heading):
    """Rows of the first list-table under a heading, as lists of text."""
    text = path.read_text(encoding="utf-8").split(heading, 1)[1]
    body = text.split(".. list-table::", 1)[1]
    rows = re.split(r"\n {4}\* - ", re.split(r"\n(?=\S)", body, maxsplit=1)[0])[1:]
    return [[cell.strip() for cell in row.split("\n      - ")] for row in rows[1:]]


def messages():
    """Every text in the library, with ``...`` for what is filled in."""
    found = []
    for path in (ROOT / "flows").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    str(v.value) if isinstance(v, ast.Constant) else "..."
                    for v in node.values
                )
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


WITH_CODE = [page for page in PAGES if code_blocks(page)]


def test_pages_with_code_are_found():
    assert {page.name for page in WITH_CODE} >= {
        "README.md",
        "CONTRIBUTING.md",
        "index.rst",
        "tutorial.rst",
        "vectors.rst",
        "schemes.rst",
        "extending.rst",
    }


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_of_a_page_runs_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page", "fl": fl, "Potential": fl.Potential}
    for number, block in enumerate(code_blocks(page)):
        for long, short in SHORTER.get(page.name, {}).items():
            block = block.replace(long, short)
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def test_the_readme_prints_what_it_says(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    said = text.split("prints\n\n```\n", 1)[1].split("```", 1)[0]
    exec(code_blocks(ROOT / "README.md")[0], {})
    pattern = r"(.*) W2 error (.*)"
    printed = re.findall(pattern, capsys.readouterr().out)
    expected = re.findall(pattern, said)
    assert len(expected) == 3
    assert [space for space, _ in printed] == [space for space, _ in expected]
    for (_, here), (_, there) in zip(printed, expected, strict=True):
        assert float(here) == pytest.approx(float(there), abs=2e-4)


def test_the_readme_names_the_test_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "The test command is `make test`." in text
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:^|`)make (\w+)", text, re.M)
    assert set(targets) >= {"figures", "test", "docs"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_local_links_lead_somewhere():
    count = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        links = (
            re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if page.suffix == ".md" else []
        )
        links += re.findall(r"^\.\. image:: (\S+)", text, re.M)
        for link in links:
            if not re.match(r"[a-z]+:", link):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
                count += 1
    assert count >= 3


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs/index.rst").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.rst"):
        if page.stem != "index":
            assert re.search(rf"^    {page.stem}$", index, re.M), page.name


def test_api_page_lists_every_public_name():
    text = (ROOT / "docs/api.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^    ([A-Za-z_][\w.]*)$", text, re.M))
    for name in listed:
        value = fl
        for part in name.split("."):
            if part == "plotting":
                importlib.import_module("flows.plotting")
            value = getattr(value, part)
    last = {name.rpartition(".")[2] for name in listed}
    for name in set(fl.__all__) - {
        "JKO",
        "__version__",
        "bounds",
        "learning",
        "metrics",
        "nonsmooth",
        "norms",
        "plotting",
        "problems",
        "theory",
    }:
        assert name in last, name
    for module in (
        fl.learning,
        fl.nonsmooth,
        fl.problems,
        fl.theory,
        importlib.import_module("flows.plotting"),
    ):
        prefix = module.__name__.removeprefix("flows.")
        for name in module.__all__:
            public = callable(getattr(module, name)) and name != "Problem"
            assert not public or f"{prefix}.{name}" in listed, f"{prefix}.{name}"


def test_scheme_table_agrees_with_the_schemes():
    rows = table(ROOT / "docs/schemes.rst", "Order of a scheme")
    assert len(rows) >= 14
    for name, order, estimate, stable in rows:
        scheme = getattr(fl, name.strip("`"))
        assert scheme.order == int(order), name
        assert (scheme.error_order is not None) == (estimate == "yes"), name
        assert scheme.stability == pytest.approx(float(stable), abs=5e-4), name
    named = {row[0].strip("`") for row in rows}
    for name in fl.__all__:
        kind = getattr(fl, name)
        if isinstance(kind, type) and issubclass(kind, fl.Scheme):
            where = (ROOT / "docs/schemes.rst").read_text(encoding="utf-8")
            assert name in named or f"``{name}" in where or kind is fl.Scheme, name


def test_messages_in_the_table_of_errors_exist():
    known = messages()
    rows = table(ROOT / "docs/errors.rst", "Errors and what to do")
    assert len(rows) >= 10
    for message, remedy in rows:
        assert remedy
        for fragment in message.strip("`").split("..."):
            text = fragment.strip()
            assert text in known, f"no message has {text!r}"


def test_the_changelog_and_the_citation_have_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(fl.__version__)}$", text, re.M)


@pytest.mark.parametrize(
    "name",
    [
        module.name
        for module in pkgutil.walk_packages(fl.__path__, "flows.")
        if not module.name.endswith("__main__")
    ],
)
def test_examples_in_docstrings_hold(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0
