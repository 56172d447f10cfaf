"""Command line: ``python -m flows verify`` and ``python -m flows figures``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="compute what theory says, and compare")
    check.add_argument("--json", action="store_true", help="machine-readable output")
    check.add_argument(
        "--only", default="", metavar="WORD", help="statements with WORD"
    )
    draw = commands.add_parser("figures", help="run the demos and draw their figures")
    draw.add_argument("--out", default="figures", metavar="FOLDER")
    draw.add_argument("--demos", default="demos", metavar="FOLDER")
    draw.add_argument("--only", default="", metavar="WORD", help="demos with WORD")
    options = parser.parse_args(arguments)
    if options.command == "verify":
        return run_verify(options.only, options.json)
    return run_figures(Path(options.demos), Path(options.out), options.only)


def run_verify(only: str, as_json: bool) -> int:
    """One line for each statement; 0 when all pass, 1 when one fails, 2 for none."""
    from flows.theory.verify import HEADER, statements, verify

    chosen = [s for s in statements() if only.lower() in f"{s.name} {s.text}".lower()]
    if not chosen:
        names = ", ".join(s.name for s in statements())
        print(f"No statement matches {only!r}; there are: {names}", file=sys.stderr)
        return 2
    results: list[Any] = []
    chapter = ""
    if not as_json:
        print(HEADER)
    for item, result in zip(chosen, verify(chosen), strict=True):
        results.append(result)
        if not as_json:
            if item.chapter != chapter:
                chapter = item.chapter
                print(f"\n{chapter}")
            print(result, flush=True)
    passed = sum(result.passed for result in results)
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    else:
        print(f"\n{passed} of {len(results)} statements hold.")
    return 0 if passed == len(results) else 1


def run_figures(demos: Path, out: Path, only: str) -> int:
    """Run every demo, write its figures and ``results.json``, print a table."""
    scripts = sorted(p for p in demos.glob("[0-9]*.py") if only in p.name)
    if not scripts:
        print(
            f"No demos in {demos.resolve()}; run this in a checkout of the project, or "
            "give --demos FOLDER.",
            file=sys.stderr,
        )
        return 2
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    print(f"{'demo':32} {'error':>9} {'allowed':>9} {'seconds':>8}  what")
    for script in scripts:
        began = time.perf_counter()
        outcome = run_demo(script, out)
        outcome["seconds"] = round(time.perf_counter() - began, 2)
        results[script.stem] = outcome
        print(
            f"{script.stem:32} {outcome['error']:9.2e} {outcome['tolerance']:9.1e} "
            f"{outcome['seconds']:8.1f}  {outcome['what']}",
            flush=True,
        )
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    failed = [n for n, r in results.items() if not r["error"] <= r["tolerance"]]
    pictures = len(list(out.glob("*.png"))) + len(list(out.glob("*.gif")))
    print(f"\n{pictures} pictures and results.json are in {out.resolve()}")
    if failed:
        print(f"Beyond their tolerance: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run_demo(script: Path, out: Path) -> dict[str, Any]:
    """Call ``main(plot=True, out=out)`` of a demo; its prints stay out of the table."""
    import contextlib
    import io
    import runpy

    with contextlib.redirect_stdout(io.StringIO()):
        module = runpy.run_path(str(script), run_name=script.stem)
        outcome = module["main"](plot=True, out=out)
    return {
        "error": float(outcome["error"]),
        "tolerance": float(outcome["tolerance"]),
        "what": str(outcome["what"]),
    }


if __name__ == "__main__":
    raise SystemExit(main())
