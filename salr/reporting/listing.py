"""All cells of a results folder, one line each, with the options in which they differ."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import pandas

from salr.records import State
from salr.reporting.statistics import estimate
from salr.reporting.summary import HEADLINES

CELL = ["dataset", "model", "optimizer", "key"]
"""The columns that identify a cell."""

_CONFIG = "config."


def matching(runs: pandas.DataFrame, filters: Mapping[str, str]) -> pandas.DataFrame:
    """Return the runs whose ``dataset``, ``state``, ``optimizer.base.lr`` and so on have the given values.

    Raises:
        ValueError: if no run has such a column.
    """
    any_runs = not runs.empty
    for name, text in filters.items():
        column = name if name in runs else f"{_CONFIG}{name}"
        if column in runs:
            runs = runs[pandas.Series([_is(each, text) for each in runs[column]], runs.index, dtype=bool)]
        elif any_runs:
            raise ValueError(
                f"{name}: no run has it; expected dataset, model, optimizer, state, or an option"
            )
    return runs


def cells(runs: pandas.DataFrame, has_effect: Callable[[str], bool]) -> pandas.DataFrame:
    """Return a row per cell: identity, differing options, metric, mean, std, n, and the states of the runs.

    Args:
        runs: the first frame of :func:`salr.records.load_runs`.
        has_effect: whether an option can change a run's numbers; the others make no cells different.
    """
    options = _options(runs, has_effect)
    rows = [
        dict(zip(CELL, identity, strict=True)) | {"options": options.get(identity, "")} | _measured(part)
        for identity, part in runs.groupby(CELL, sort=True)
    ]
    columns = [*CELL, "options", "metric", "mean", "std", "n", "states"]
    return pandas.DataFrame(rows, columns=columns)


def _options(runs: pandas.DataFrame, has_effect: Callable[[str], bool]) -> dict[tuple[str, ...], str]:
    """Return, by cell, the options in which cells of a data set, network and optimizer differ.

    A cell of which no run has a readable configuration is left out.
    """
    names = [name for name in runs if name.startswith(_CONFIG) and has_effect(name.removeprefix(_CONFIG))]
    options: dict[tuple[str, ...], str] = {}
    readable = runs[runs[names].notna().any(axis=1)]
    for _, alike in readable.groupby(CELL[:3]):
        firsts = alike.groupby("key").head(1)
        texts = {name: [_text(value) for value in firsts[name]] for name in names}
        different = [name for name, values in texts.items() if len(set(values)) > 1]
        for place, identity in enumerate(firsts[CELL].itertuples(index=False, name=None)):
            words = (f"{name.removeprefix(_CONFIG)}={texts[name][place]}" for name in different)
            options[identity] = " ".join(words)
    return options


def _measured(runs: pandas.DataFrame) -> dict[str, Any]:
    finished = runs[runs["state"] == State.FINISHED]
    metric = next((name for name in HEADLINES if name in finished and finished[name].notna().any()), None)
    value = estimate([] if metric is None else finished[metric].dropna().tolist())
    return {
        "metric": metric or "",
        "mean": value.mean,
        "std": value.std,
        "n": value.n,
        "states": _states(runs["state"]),
    }


def _states(states: Iterable[str]) -> str:
    counts = pandas.Series(list(states)).value_counts().sort_index()
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _is(value: object, text: str) -> bool:
    """Whether a text means this value: numbers may be written in any way, such as 1e-2 for 0.01."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(text) == value
    return _text(value) == text


def _text(value: object) -> str:
    """Return a value as it is written on a command line."""
    if value is None or value is pandas.NA or value != value:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    # A column in which some runs have no value turns whole numbers into floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
