"""Files of runs: ``.npz`` with a JSON header, read without executing anything."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SCHEMA",
    "header",
    "previous",
    "read_meta",
    "read_npz",
    "replace",
    "space_from_json",
    "space_to_json",
]

SCHEMA = 1


def header(meta: dict[str, Any]) -> dict[str, Any]:
    """The JSON header as a member of an ``.npz`` file."""
    return {"meta": np.array(json.dumps(meta))}


def space_to_json(space: Any) -> dict[str, Any] | None:
    """Class name and fields of a space; None where a field is a Python function.

    The parts of a space (norms, mirror maps, metrics, bounds) are written likewise.
    """
    try:
        return None if space is None else _encoded(space)
    except TypeError:
        return None


def space_from_json(data: dict[str, Any] | None) -> Any:
    """Inverse of ``space_to_json``; None for a space this version does not know."""
    from flows.spaces.saved import PARTS

    try:
        return None if data is None else _decoded(data, PARTS)
    except LookupError:
        return None


def _encoded(value: Any) -> Any:
    """Numbers, names, arrays, sequences and dataclasses as JSON values."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, tuple | list):
        return [_encoded(part) for part in value]
    if not is_dataclass(value) or isinstance(value, type):
        json.dumps(value)
        return value
    values = {f.name: _encoded(getattr(value, f.name)) for f in fields(value) if f.init}
    return {"class": type(value).__name__, "fields": values}


def _decoded(value: Any, parts: Mapping[str, Any]) -> Any:
    """Inverse of ``_encoded`` for classes by their names in ``parts``."""
    if isinstance(value, list):
        return tuple(_decoded(part, parts) for part in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(value["array"], dtype=float)
    kind = parts[value["class"]]
    values = {k: _decoded(v, parts) for k, v in value["fields"].items()}
    axes = values.pop("axes", ())
    return kind(*axes, **values)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, every byte checked by its CRC; nothing is executed.

    Raises
    ------
    FileNotFoundError
    ValueError
        For a file that is truncated, altered or not of this format.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                # The CRC is compared when a member has been read whole, so the bytes
                # are read before NumPy believes the header.
                raw = io.BytesIO(archive.read(name))
                value = np.lib.format.read_array(raw, allow_pickle=False)
                arrays[name.removesuffix(".npy")] = value
    except Exception as error:
        raise ValueError(
            f"{path} is damaged or not a file of flows "
            f"({type(error).__name__}: {error})."
        ) from error
    return arrays


def read_meta(path: Path, arrays: dict[str, np.ndarray], kind: str) -> dict[str, Any]:
    """The JSON header, checked for kind and schema."""
    try:
        meta = json.loads(str(arrays.pop("meta")[()]))
        found, schema = meta["kind"], meta["schema"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} has no header of flows; it is not a {kind}."
        ) from error
    if found != kind:
        raise ValueError(f"{path} is a {found}, not a {kind}.")
    if schema != SCHEMA:
        raise ValueError(
            f"{path} was written in format {schema}; this version reads {SCHEMA}. "
            "Use the version of flows that wrote it."
        )
    return dict(meta)


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one move; what was there becomes ``path.prev``."""
    handle, name = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            keep(path)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def keep(path: Path) -> None:
    """Make the file ``path.prev`` too; ``path`` itself stays if that is possible."""
    spare = path.with_name(f".{path.name}.prev.tmp")
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        # A file system without hard links: for a moment only path.prev exists.
        os.replace(path, previous(path))
    else:
        os.replace(spare, previous(path))


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one is kept."""
    return path.with_name(path.name + ".prev")
