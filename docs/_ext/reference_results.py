"""Tables of what the project has measured, made from ``results/reference/`` whenever the pages are built.

``python docs/_ext/reference_results.py`` writes the same tables into README.md, between the marks
``<!-- results -->`` and ``<!-- end of results -->``, and likewise for ``costs``. A test checks that they are
there.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]  # run as a script, it finds the project's packages

import reference_answer  # noqa: E402
import reference_costs  # noqa: E402
import reference_expansion  # noqa: E402
import reference_first_order  # noqa: E402
import reference_slices  # noqa: E402
import reference_study  # noqa: E402
from reference_words import (  # noqa: E402
    NO_BREAK,
    beside_published,
    budget,
    diverged,
    ended,
    interval,
    outcome,
    place,
    read_rows,
    seeds,
)

from salr.records import load_runs  # noqa: E402
from salr.reporting.methods import name_of  # noqa: E402
from salr.reporting.metrics import METRICS  # noqa: E402
from salr.reporting.statistics import MIN_SEEDS  # noqa: E402

REFERENCE = ROOT / "results" / "reference"


def rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a file of ``results/reference/``."""
    return read_rows(REFERENCE / name)


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table; columns after the first two are aligned to the right."""
    marks = ["---" if place < 2 else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *lines))


def results() -> str:
    """Return every cell that has been measured, beside what the paper reports, and the tested differences."""
    parts = [_measured(path.name) for path in sorted((REFERENCE / "tables").glob("table[0-9].csv"))]
    return "\n\n".join(part for part in parts if part)


def _measured(name: str) -> str:
    cells = [row for row in rows(f"tables/{name}") if ended(row)]
    if not cells:
        return ""
    table = [
        (
            place(cell),
            name_of(cell["method"]),
            cell["epochs"] or "–",
            _mean(cell, "mean", "std"),
            cell["n"] + diverged(cell),
            _mean(cell, "published_mean", "published_std"),
        )
        for cell in cells
    ]
    head = ("network, data", "method", "epochs", "measured", "seeds", "published")
    labels = " and ".join(dict.fromkeys(METRICS[cell["metric"]].label for cell in cells))
    text = f"Table {cells[0]['table']}, {labels}, mean (standard deviation):\n\n"
    return text + markdown(head, table) + "\n\n" + differences(name.removesuffix(".csv"))


def differences(table: str) -> str:
    """Return one line for each difference between methods that has been measured, with its interval."""
    return "\n".join(f"- {line}" for line in _differences(table))


def _differences(table: str, least: int = 1) -> list[str]:
    """Return the lines of :func:`differences` over at least so many seeds."""
    cells = {(place(row), row["method"]): row for row in rows(f"tables/{table}.csv")}
    lines = []
    for row in rows(f"tables/{table}_differences.csv"):
        if not row["difference"] or int(row["n"]) < least:
            continue
        first, second = (cells[place(row), row[side]] for side in ("method", "against"))
        compared = f"{name_of(row['method'])} minus {name_of(row['against'])}"
        names = f"{place(row)}, {budget(first, second)}: {compared}"
        size = METRICS[first["metric"]].difference(f"{float(row['difference']):+.3g}")
        lines.append(f"{names} is {size} ({interval(row)}{seeds(row['n'])}); {outcome(row)}.")
    return lines


def found() -> str:
    """Return what has been measured with enough seeds and how it compares, a line per finding."""
    cells = [row for name in _tables() for row in rows(f"tables/{name}.csv")]
    if not cells:
        return "\n".join(["- No table of the paper is measured yet.", *reference_study.found(REFERENCE)])
    shown = [row for row in cells if ended(row)]
    measured = sum(int(row["n"]) > 0 for row in cells)
    numbers = " and ".join(sorted({row["table"] for row in cells}))
    enough = [row for row in shown if int(row["n"]) >= MIN_SEEDS]
    lines = [
        f"- {measured} of the {len(cells)} cells of Table {numbers} are measured, {len(enough)} of them with "
        f"{MIN_SEEDS} seeds or more. Only these are compared here."
    ]
    lines += [f"- {beside_published(row)}." for row in shown if row in enough or diverged(row)]
    lines += [f"- {line}" for name in _tables() for line in _differences(name, MIN_SEEDS)]
    lines += [
        f"- {line}" for line in map(reference_first_order.words, reference_first_order.compared(REFERENCE))
    ]
    return "\n".join([*lines, *reference_study.found(REFERENCE)])


def _tables() -> list[str]:
    return [path.stem for path in sorted((REFERENCE / "tables").glob("table[0-9].csv"))]


def answer() -> str:
    """Return whether sharpness-aware learning rates help, as far as it is measured."""
    return reference_answer.answer(REFERENCE)


def study(name: str) -> str:
    """Return a table of the study."""
    return reference_study.table(REFERENCE, name)


def costs() -> str:
    """Return what each table takes at the paper's budgets, and the devices whose times it gives."""
    return f"{markdown(*reference_costs.costs())}\n\n{reference_costs.devices()}"


def call_times() -> str:
    """Return how long a gradient call lasts on each network."""
    return markdown(*reference_costs.call_times())


def run_times() -> str:
    """Return how long the runs took that made the committed tables."""
    found: dict[tuple[str, str, str], list[float]] = {}
    calls: dict[tuple[str, str, str], int] = {}
    for path in sorted((REFERENCE / "tables").glob("table[0-9]_runs.csv")):
        for row in rows(f"tables/{path.name}"):
            key = row["network"], name_of(row["method"]), f"{row['device']}, {_threads(row)}"
            found.setdefault(key, []).append(float(row["seconds"]))
            calls[key] = int(row["gradient_calls"])
    lines = []
    for (network, method, device), seconds in found.items():
        minutes = f"{min(seconds) / 60:.0f} to {max(seconds) / 60:.0f}"
        lines.append((network, method, f"{calls[network, method, device]:,}", minutes, device))
    return markdown(("network", "method", "gradient calls", "minutes a run", "device"), lines)


def _threads(row: dict[str, str]) -> str:
    return f"{row['threads']} thread" if row["threads"] == "1" else f"{row['threads']} threads"


def steps() -> str:
    """Return the timed steps of the bench in both precisions, as ratios to a plain loop's SGD step."""
    return "\n\n".join(
        f"In {title}:\n\n{_steps(rows(f'bench/step_cpu_{precision}.csv'))}"
        for precision, title in (("float32", "float32"), ("bf16", "bfloat16 autocast"))
    )


def ratios() -> str:
    """Return the timed steps of the library's own methods on three networks, as ratios to a plain loop's."""
    timed = rows("bench/step_cpu_float32.csv")
    table = _steps(
        [
            row
            for row in timed
            if row["network"] in ("mnistfc", "lenet", "resnet18") and row["contestant"].startswith("our ")
        ]
    )
    made = timed[0]
    return f"{table}\n\n{made['device']}, {made['threads']} threads, torch {made['torch']}."


def _steps(timed: Sequence[dict[str, str]]) -> str:
    networks = list(dict.fromkeys(row["network"] for row in timed))
    counts = {row["contestant"]: f"{float(row['gradients']):g}" for row in timed}
    ratio = {(row["contestant"], row["network"]): f"{float(row['ratio_to_plain_sgd']):.2f}" for row in timed}
    lines = [
        [name, count, *(ratio.get((name, network), "–") for network in networks)]
        for name, count in counts.items()
        if name != "plain SGD"
    ]
    return markdown(["step", "gradients", *networks], lines)


def expansion() -> str:
    """Return how far Definition 1 goes with its first-order term while cells train, a line per run."""
    found = reference_expansion.summaries(REFERENCE)
    if not found:
        return "No run of `scripts/expansion.py`, which measures this while a cell trains, is committed yet."
    return markdown(*reference_expansion.table(found))


def expansion_in_words() -> str:
    """Return how close Definition 1 is to its first-order term at the paper's γ, and where the least."""
    return reference_expansion.words(reference_expansion.summaries(REFERENCE))


def first_order() -> str:
    """Return first-order SALR beside SALR: accuracy at the same rate and epochs, and what a step costs."""
    cells = reference_first_order.compared(REFERENCE)
    if not cells:
        return "*Not measured yet.*"
    timed = rows("bench/step_cpu_float32.csv")
    ms = {(row["network"], row["contestant"]): float(row["ms"]) for row in timed}
    times = [
        f"{ms[network, 'our SALR'] / ms[network, 'our first-order SALR']:.1f} times on {network}"
        for network in dict.fromkeys(row["network"] for row in timed)
        if {(network, "our SALR"), (network, "our first-order SALR")} <= ms.keys()
    ]
    table = markdown(*reference_first_order.table(cells))
    words = f"A step of SALR takes longer than one of first-order SALR: {', '.join(times)}."
    return f"{table}\n\n{words}"


def slices() -> str:
    """Return the runs at a fraction of the paper's budget."""
    head, lines = reference_slices.table(REFERENCE)
    return markdown(head, lines) if lines else "*Not measured yet.*"


def devices() -> str:
    """Return on which devices and in which precision the kept runs were trained."""
    runs, _ = load_runs(REFERENCE)
    of = runs["config.tracker.tags"].map(_part_of)
    counts = runs.groupby([of, "config.trainer.precision", "made_by.device"]).size()
    parts: dict[str, list[str]] = {}
    for (part, precision, device), number in counts.items():
        parts.setdefault(part, []).append(f"{number} in {precision} on {device}")
    texts = [f"{part}: {', '.join(each)}" for part, each in parts.items()]
    return "\n".join(f"- Kept runs of {text}." for text in texts)


def _part_of(tags: object) -> str:
    """Return of what a run is a part, given its tags."""
    if not isinstance(tags, Sequence) or "study" not in tags:
        return "the tables and slices"
    return "the study's phase 1" if "study-search" in tags else "the study's phase 2"


def rounding() -> str:
    """Return by how much bfloat16 changes the factor while cells train."""
    lines = []
    for path in sorted(REFERENCE.rglob("rounding_*_summary.csv")):
        cell = path.stem.removeprefix("rounding_").removesuffix("_summary").replace("_", " ")
        for row in rows(path.relative_to(REFERENCE).as_posix()):
            numbers = [f"{float(row[name]):+.2f}" for name in ("mean_percent", "largest_percent")]
            spread = f"{float(row['std_percent']):.2f}"
            lines.append((cell, row["phase"], row["measurements"], numbers[0], spread, numbers[1]))
    if not lines:
        return "No run of `scripts/rounding.py`, which measures this while a cell trains, is committed yet."
    head = ("cell", "iterations", "measurements", "mean (%)", "standard deviation (%)", "largest (%)")
    return markdown(head, lines)


def sharp_and_flat() -> str:
    """Return which measures tell a sharp minimum from a flat one: ratios, sharp to flat."""
    found = sorted(REFERENCE.rglob("sharp_and_flat.csv"))
    if not found:
        return "No run of `scripts/sharp_and_flat.py`, which compares the measures, is committed yet."
    table = rows(found[0].relative_to(REFERENCE).as_posix())
    lines = [[name, *map(_ratio, values)] for name, *values in (row.values() for row in table)]
    return markdown(list(table[0]), lines)


def _ratio(value: str) -> str:
    return "none" if value in ("", "nan") else f"{float(value):.3g}"


def pictures(pattern: str, about: str) -> str:
    """Return the pictures whose files match the pattern, for pages that lie in ``docs/``."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in REFERENCE.glob(pattern))
    return "\n\n".join(f"![{about}](../{path})" for path in found)


BLOCKS: dict[str, Callable[[], str]] = {
    "answer": answer,
    "found": found,
    "curves": partial(pictures, "figures/calls_*.png", "Test error and the factor against gradient calls"),
    "sensitivity": partial(pictures, "study/sensitivity.png", "Validation error against the base rate"),
    "results": results,
    **{f"study_{name}": partial(study, name) for name in reference_study.TABLES},
    "costs": costs,
    "call_times": call_times,
    "run_times": run_times,
    "steps": steps,
    "ratios": ratios,
    "expansion": expansion,
    "expansion_in_words": expansion_in_words,
    "expansion_curves": partial(pictures, "expansion/*.png", "Definition 1 and its first-order term"),
    "first_order": first_order,
    "slices": slices,
    "devices": devices,
    "rounding": rounding,
    "sharp_and_flat": sharp_and_flat,
}


def with_blocks(text: str) -> str:
    """Return a page with the tables between its marks made anew."""
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if begin in text:
            pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
            block = f"{begin}\n{make()}\n\n{end}"
            text = pattern.sub(lambda _, block=block: block, text)
    return text


def _mean(cell: dict[str, str], mean: str, spread: str) -> str:
    digits = METRICS[cell["metric"]].digits
    numbers = [f"{float(cell[name]):.{digits}f}" for name in (mean, spread) if cell[name]] or ["–"]
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]}{NO_BREAK}({numbers[1]})"


def setup(app: Any) -> dict[str, Any]:
    """Add the directive ``reference``, whose argument is one of :data:`BLOCKS`."""
    from sphinx.util.docutils import SphinxDirective

    class Reference(SphinxDirective):
        required_arguments = 1

        def run(self) -> list[Any]:
            for path in (*REFERENCE.rglob("*.csv"), reference_costs.CALIBRATION):
                self.env.note_dependency(str(path))
            return self.parse_text_to_nodes(BLOCKS[self.arguments[0]]())

    app.add_directive("reference", Reference)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(with_blocks(page.read_text(encoding="utf-8")), encoding="utf-8")
