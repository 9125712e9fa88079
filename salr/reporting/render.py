"""Tables in words: the texts that files and the page share, and Markdown."""

import math
from collections.abc import Sequence

from salr.reporting.cells import Cell
from salr.reporting.comparisons import Comparison, Outcome
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS
from salr.reporting.published import Published
from salr.reporting.statistics import ALPHA, MIN_SEEDS
from salr.reporting.tables import Table, by_place

COMPARED = ("data", "network", "difference", "mean [95 %]", "corrected", "p (Holm)", "n", "outcome")
"""The columns of :func:`compared`."""


def number(mean: float, std: float, digits: int) -> str:
    """Return ``98.18 (0.06)``; a dash if there is nothing."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ({std:.{digits}f})")


def measured_text(cell: Cell) -> str:
    """Return mean (std) with n, and what became of the other runs."""
    if not cell.values:
        return "missing" if set(cell.states) <= {"missing"} else f"– [{cell.others}]"
    value = cell.estimate
    text = f"{number(value.mean, value.std, cell.metric.digits)} n={value.n}{differs_text(cell)}"
    return text + (f" [{cell.others}]" if cell.others else "")


def differs_text(cell: Cell) -> str:
    """Return a mark if the measured mean differs from the published one beyond doubt."""
    if not differs(cell):
        return ""
    return " ▲" if cell.gap.mean > 0 else " ▼"


def differs(cell: Cell) -> bool:
    """Whether measured and published means differ at ALPHA, corrected over all printed cells."""
    return cell.gap.n >= MIN_SEEDS and cell.gap_p < ALPHA and abs(cell.gap.mean) >= cell.metric.resolution


def published_text(printed: Published) -> str:
    return number(printed.mean, printed.std, METRICS[printed.metric].digits)


def caption(table: Table) -> str:
    """Return the caption, with the preset and what was changed."""
    notes = [] if table.preset == "paper" else [f"preset {table.preset}: no reproduction"]
    if table.overrides:
        changed = "budget changed, no verdict" if table.budget_changed else "changed"
        notes.append(f"{changed}: {' '.join(table.overrides)}")
    return " — ".join([f"Table {table.number}: {table.caption}", *notes])


def remarks(table: Table) -> list[str]:
    """Return footnotes: what a reader has to know before comparing."""
    notes = [] if table.preset == "paper" else _preset_notes(table)
    errors = [error for cell in table.cells if (error := cell.sampling_error) is not None]
    if errors:
        span = f"{min(errors):.2f}" if len(errors) == 1 else f"{min(errors):.2f} to {max(errors):.2f}"
        notes.append(
            f"The test set is a sample, too: its size gives each accuracy a standard error of {span} points, "
            "whatever the number of seeds. Methods share the test set, so differences have a smaller one."
        )
    if any(differs(cell) for cell in table.cells):
        notes.append(
            "▲ ▼: the measured mean is above or below the published one (Welch's test with the paper's n, "
            "5 % after Holm's correction over all printed cells)."
        )
    return [*notes, *table.remarks]


def _preset_notes(table: Table) -> list[str]:
    trained = ", ".join(sorted({cell.wanted.dataset for cell in table.cells}))
    notes = [f"Preset {table.preset}, trained on {trained} for a part of the budget, to try everything out."]
    names = sorted({(c.wanted.published.network, c.wanted.network) for c in table.cells})
    replaced = [f"{printed} by {network}" for printed, network in names if printed != network]
    return [*notes, *([f"Networks replaced: {', '.join(replaced)}."] if replaced else [])]


def methods_of(table: Table) -> list[str]:
    """Return the methods in the paper's order."""
    return list(dict.fromkeys(cell.wanted.published.method for cell in table.cells))


def difference_text(each: Comparison) -> str:
    """Return ``+0.12 [+0.02, +0.22]``, and the unpaired interval if it disagrees with the paired one."""
    gap, digits = each.difference, each.metric.digits
    if math.isnan(gap.mean):
        return "–"
    text = f"{gap.mean:+.{digits}f}{interval_text((gap.low, gap.high), digits)}"
    if each.pairing_matters:
        other = each.unpaired
        text += f" paired; unpaired{interval_text((other.low, other.high), digits)}"
    return text


def interval_text(interval: tuple[float, float], digits: int) -> str:
    """Return `` [+0.02, +0.22]``; nothing without an interval."""
    low, high = interval
    return "" if math.isnan(low) else f" [{low:+.{digits}f}, {high:+.{digits}f}]"


def p_text(p: float) -> str:
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def margin_text(each: Comparison) -> str:
    return f"±{each.margin:.{each.metric.digits + 1}f}".rstrip("0").rstrip(".")


def outcome_text(each: Comparison) -> str:
    """Return the outcome in words: who is better, or what is missing for a decision."""
    names = {
        Outcome.BETTER: f"{name_of(each.pair.method)} better",
        Outcome.WORSE: f"{name_of(each.pair.against)} better",
        Outcome.EQUIVALENT: f"equivalent ({margin_text(each)})",
    }
    if each.outcome in (Outcome.BETTER, Outcome.WORSE):
        return names[each.outcome] + (f", by less than {margin_text(each)}" if each.small else "")
    if each.outcome is not Outcome.UNDECIDED:
        return names.get(each.outcome, each.outcome)
    if each.difference.n < MIN_SEEDS:
        return f"undecided: n < {MIN_SEEDS}"
    if each.diverged:
        return f"undecided: runs of {' and '.join(cell.method for cell in each.diverged)} diverged"
    seeds = each.seeds_to_decide
    return f"undecided: {seeds} seeds would decide" if seeds else "undecided: more than 1,000 seeds needed"


def pair_text(each: Comparison) -> str:
    return f"{name_of(each.pair.method)} − {name_of(each.pair.against)}"


def compared(each: Comparison) -> tuple[str, ...]:
    """Return a comparison as the texts of the columns ``COMPARED``."""
    return (
        each.pair.dataset,
        each.pair.network,
        pair_text(each),
        difference_text(each),
        interval_text(each.corrected_interval, each.metric.digits).strip() or "–",
        p_text(each.p),
        str(each.difference.n),
        outcome_text(each),
    )


def measured_comparisons(table: Table) -> list[Comparison]:
    return [each for each in table.comparisons if each.outcome is not Outcome.NOT_MEASURED]


def not_measured_text(table: Table) -> str:
    """Return how many of the table's comparisons are not measured; empty if all are."""
    missing = len(table.comparisons) - len(measured_comparisons(table))
    if not missing:
        return ""
    return f"{missing} of {len(table.comparisons)} comparisons with this table's cells are not measured."


def markdown(table: Table) -> str:
    """Return the table, its comparisons and its footnotes."""
    methods = methods_of(table)
    lines = [f"**{caption(table)}**", "", *_header(["data", "network", "", *map(name_of, methods)])]
    for (dataset, network), cells in by_place(table).items():
        shown = [cells.get(method) for method in methods]
        measured = ["" if cell is None else measured_text(cell) for cell in shown]
        printed = ["" if cell is None else published_text(cell.wanted.published) for cell in shown]
        lines.append(_row([dataset, network, "measured", *measured]))
        lines.append(_row(["", "", "published", *printed]))
    if comparisons := measured_comparisons(table):
        lines += ["", *_header(COMPARED), *(_row(compared(each)) for each in comparisons)]
    notes = [*remarks(table), *filter(None, [not_measured_text(table)])]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _header(names: Sequence[str]) -> list[str]:
    return [_row(names), "|---" * len(names) + "|"]


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |".replace("|  |", "| |").replace("|  |", "| |")
