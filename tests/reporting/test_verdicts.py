"""Claims and comparisons: the paper's own numbers as data, and records made up for each outcome."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.paper.claims import CLAIMS, FACTS
from experiments.paper.published import TABLES, published, table_rows
from salr.reporting.cells import Cell, Wanted
from salr.reporting.claims import Claim, Pair
from salr.reporting.comparisons import Comparison, Outcome, compare
from salr.reporting.metrics import MARGINS
from salr.reporting.overview import verdict_text
from salr.reporting.published import Key, Published
from salr.reporting.render import differs, outcome_text
from salr.reporting.statistics import chance_to_decide, estimate
from salr.reporting.tables import Table, printed_table
from salr.reporting.verdicts import Judgement, Verdict, Word, judge
from tests.helpers.tables import judged, record, table

ROW = Pair("mnist", "lenet", "accuracy_percent", "sgd_salr", "sgd")


def printed() -> Judgement:
    return judge([printed_table(number, table_rows(number)) for number in TABLES], CLAIMS, FACTS)


def by_letter(judgement: Judgement) -> dict[str, Verdict]:
    return {verdict.claim.letter: verdict for verdict in judgement.verdicts}


def one(results: Path, first: list[float], second: list[float], number: int = 1) -> Comparison:
    """SGD-SALR against SGD, with these accuracies."""
    made = two(results, first, second, number)
    return next(each for each in judged(made).tables[0].comparisons if each.pair == ROW)


def two(results: Path, first: list[float], second: list[float], number: int = 1) -> Table:
    salr = [record(results, "sgd_salr", seed, value) for seed, value in enumerate(first)]
    plain = [record(results, "sgd", seed, value, epochs=100) for seed, value in enumerate(second)]
    return table(results, {"sgd": plain, "sgd_salr": salr}, number=number)


def test_the_paper_supports_its_claims_by_its_own_numbers() -> None:
    """All are supported. Only the comparisons that it prints the other way speak against them."""
    verdicts = by_letter(printed())
    assert {letter: verdict.word for letter, verdict in verdicts.items()} == dict.fromkeys(
        "abcde", Word.SUPPORTED
    )
    assert {letter: verdict.planned for letter, verdict in verdicts.items()} == {
        "a": 34,
        "b": 68,
        "c": 10,
        "d": 10,
        "e": 4,
    }
    against = {
        letter: [(each.pair.network, each.pair.method, each.pair.against) for each in verdict.contradicting]
        for letter, verdict in verdicts.items()
    }
    assert against == {
        "a": [],
        "b": [("allcnn_bn", "entropy_sgd_salr", "swa"), ("allcnn_bn", "entropy_adam_salr", "swa_adam")],
        "c": [("regnetx", "sgd_salr", "entropy_sgd_salr")],
        "d": [("resnet101", "entropy_sgd_salr", "entropy_sgd")],
        "e": [],
    }
    assert verdicts["a"].counts == {Outcome.BETTER: 34}
    assert verdicts["c"].counts[Outcome.EQUIVALENT] == 1  # ResNet18 on CIFAR-10: 91.21 twice


def test_a_claims_denominator_does_not_depend_on_the_printed_tables() -> None:
    """Nor does one loss in thirty-four make a claim unsupported."""
    alone = by_letter(judge([printed_table(2, table_rows(2))], CLAIMS))
    assert alone["a"].planned == 34
    assert alone["a"].measured == 10
    assert verdict_text(alone["a"]) == (
        "supported in 10 of 10 measured comparisons, contradicted in 0, equivalent in 0, undecided in 0; "
        "24 of the paper's 34 not measured"
    )
    assert alone["a"].word == Word.OPEN


def test_one_loss_among_many_does_not_decide_a_claim() -> None:
    cells = [
        each if each.key != ("mnist", "lenet", "sgd_salr", "accuracy_percent") else _lower(each)
        for each in published()
    ]
    tables = [printed_table(number, [cell for cell in cells if cell.table == number]) for number in TABLES]
    verdict = by_letter(judge(tables, CLAIMS))["a"]
    assert (verdict.counts[Outcome.BETTER], verdict.counts[Outcome.WORSE]) == (33, 1)
    assert verdict.word == Word.SUPPORTED


def _lower(cell: Published) -> Published:
    return replace(cell, mean=90.0)


def test_a_verdict_is_open_until_most_comparisons_are_decided(tmp_path: Path) -> None:
    pairs = [Pair("mnist", f"other{i}", "accuracy_percent", "sgd_salr", "sgd") for i in range(3)]
    claim = Claim("x", "", "", tuple(pairs))
    verdict = judge([two(tmp_path, [99.0] * 3, [98.0] * 3)], [claim]).verdicts[0]
    assert (verdict.word, verdict.planned, verdict.measured) == (Word.NOT_MEASURED, 3, 0)


@pytest.mark.parametrize("gain", [0.5, -0.5])
def test_better_and_worse(gain: float, tmp_path: Path) -> None:
    plain = [98.0, 98.1, 98.2, 98.1, 98.0]
    noise = [0.01, -0.01, 0.02, 0.0, 0.01]
    each = one(tmp_path, [value + gain + more for value, more in zip(plain, noise, strict=True)], plain)
    assert each.outcome == (Outcome.BETTER if gain > 0 else Outcome.WORSE)
    assert outcome_text(each) == ("SGD-SALR better" if gain > 0 else "SGD better")
    low, high = each.corrected_interval
    assert (low > 0) == (gain > 0)
    assert (low, high) != (each.difference.low, each.difference.high)


@pytest.mark.parametrize(
    ("gain", "none_diverged", "salr_diverged", "sgd_diverged"),
    [
        (1.0, Outcome.BETTER, Outcome.UNDECIDED, Outcome.BETTER),
        (-1.0, Outcome.WORSE, Outcome.WORSE, Outcome.UNDECIDED),
        (0.0, Outcome.EQUIVALENT, Outcome.UNDECIDED, Outcome.UNDECIDED),
    ],
)
def test_the_runs_that_did_not_diverge_are_no_proof_for_their_method(
    gain: float, none_diverged: Outcome, salr_diverged: Outcome, sgd_diverged: Outcome
) -> None:
    """The mean is over finished runs only, so it flatters a method of which a run diverged."""
    salr, sgd = (
        accuracy_cell(key, 97 + add + np.arange(4) / 100) for key, add in ((ROW.first, gain), (ROW.second, 0))
    )
    claims = [Claim("a", "", "", (ROW,))]

    def outcome(first: Cell, second: Cell) -> Comparison:
        return compare({ROW.first: first, ROW.second: second}, claims, MARGINS)[ROW]

    def with_diverged(cell: Cell) -> Cell:
        return replace(cell, states={"diverged": 1})

    assert outcome(salr, sgd).outcome is none_diverged
    first, second = outcome(with_diverged(salr), sgd), outcome(salr, with_diverged(sgd))
    assert (first.outcome, second.outcome) == (salr_diverged, sgd_diverged)
    for each, name in ((first, "SGD-SALR"), (second, "SGD")):
        assert each.seeds_to_decide is None
        if each.outcome is Outcome.UNDECIDED:
            assert outcome_text(each) == f"undecided: runs of {name} diverged"


def test_the_aggregate_leaves_out_cells_of_which_a_run_diverged(tmp_path: Path) -> None:
    salr = [record(tmp_path, "sgd_salr", seed, 98.0 + seed / 10) for seed in range(10)]
    sgd = [record(tmp_path, "sgd", seed, 97.0 + seed / 10) for seed in range(10)]
    assert by_letter(judged(table(tmp_path, {"sgd": sgd, "sgd_salr": salr})))["a"].aggregate is not None
    diverged = [*salr, record(tmp_path, "sgd_salr", 10, 10.0, "diverged")]
    assert by_letter(judged(table(tmp_path, {"sgd": sgd, "sgd_salr": diverged})))["a"].aggregate is None


def test_two_seeds_never_decide(tmp_path: Path) -> None:
    """Even if both seeds have the same difference to the last digit."""
    each = one(tmp_path, [99.0, 99.0], [98.0, 98.0])
    assert each.outcome == Outcome.UNDECIDED
    assert outcome_text(each) == "undecided: n < 3"


def test_less_than_one_image_is_no_difference(tmp_path: Path) -> None:
    """0.004 points on 10,000 images, thirty times without any spread."""
    each = one(tmp_path, [98.004] * 30, [98.0] * 30)
    assert each.outcome == Outcome.EQUIVALENT
    assert outcome_text(each) == "equivalent (±0.1)"


def test_equivalent_needs_proof_and_undecided_says_how_many_seeds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    plain = random.normal(98, 0.02, 30)
    close = one(tmp_path / "close", list(plain + random.normal(0, 0.02, 30)), list(plain))
    assert close.outcome == Outcome.EQUIVALENT
    wide = one(tmp_path / "wide", list(plain[:5] + np.array([0.3, -0.3, 0.2, -0.2, 0.1])), list(plain[:5]))
    assert wide.outcome == Outcome.UNDECIDED
    assert wide.seeds_to_decide is not None
    assert outcome_text(wide) == f"undecided: {wide.seeds_to_decide} seeds would decide"


def test_margins_are_given_in_one_place(tmp_path: Path) -> None:
    plain = [98.0, 98.1, 98.2, 98.1, 98.0]
    close = [value + more for value, more in zip(plain, [0.03, -0.02, 0.01, -0.01, 0.0], strict=True)]
    made = two(tmp_path, close, plain)
    usual, narrow = (
        next(each for each in judge([made], CLAIMS, (), margins).tables[0].comparisons if each.pair == ROW)
        for margins in (MARGINS, {**MARGINS, "accuracy_percent": 0.01})
    )
    assert (usual.margin, narrow.margin) == (0.1, 0.01)
    assert narrow.equivalence_p > usual.equivalence_p


def test_margins_of_perplexities_and_sharpness_are_relative() -> None:
    comparisons = {each.pair: each for made in printed().tables for each in made.comparisons}
    perplexity = comparisons[Pair("ptb", "lstm_ptb", "perplexity", "sgd_salr", "sgd")]
    assert perplexity.margin == pytest.approx(0.005 * 78.4)
    nats = comparisons[Pair("war_and_peace", "lstm_char", "nats", "sgd_salr", "sgd")]
    assert nats.margin == 0.005
    sharpness = comparisons[Pair("cifar10", "resnet18", "sharpness_1e-3", "sgd_salr", "sgd")]
    assert sharpness.margin == pytest.approx(0.1 * 3.23)
    assert sharpness.outcome == Outcome.BETTER  # lower is better


def test_a_comparison_has_one_corrected_p_value_wherever_it_is_shown() -> None:
    """Tables 5 and 6 share cells; claims a and b share comparisons, whose larger p-value counts."""
    judgement = printed()
    shown: dict[Pair, set[float]] = {}
    for made in judgement.tables:
        for each in made.comparisons:
            shown.setdefault(each.pair, set()).add(each.p)
    for verdict in judgement.verdicts:
        for each in verdict.comparisons:
            assert each is not None
            shown[each.pair].add(each.p)
    assert all(len(ps) == 1 for ps in shown.values())
    both = next(each for made in judgement.tables for each in made.comparisons if each.claims == ("a", "b"))
    assert both.planned == 68


def test_the_correction_counts_the_planned_comparisons(tmp_path: Path) -> None:
    """Of 68 planned comparisons one is measured: its p-value is multiplied by 68."""
    each = one(tmp_path, [98.3, 98.2, 98.5], [98.0, 98.1, 98.2])
    assert each.p == pytest.approx(min(1, 68 * each.difference.p))


def test_the_corrected_interval_agrees_with_the_decision() -> None:
    """It is Bonferroni's, and so a bit more careful than Holm's p-value."""
    for made in printed().tables:
        for each in made.comparisons:
            low, high = each.corrected_interval
            assert (low > 0 or high < 0) == (each.planned * each.difference.p < 0.05)
            assert each.p < 0.05 or low <= 0 <= high


@pytest.mark.parametrize("mean", [0.05, 0.5, 4.0])
def test_the_corrected_interval_is_bonferronis_whatever_is_measured(mean: float, tmp_path: Path) -> None:
    """Of claim b's 68 comparisons one is measured; five seeds of deviation 1."""
    shape = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) / math.sqrt(2.5)
    each = one(tmp_path, list(90 + mean + shape), [90.0] * 5)
    low, high = each.corrected_interval
    reach = float(stats.t.isf(0.025 / 68, 4)) / math.sqrt(5)
    assert (low, high) == pytest.approx((mean - reach, mean + reach), rel=1e-6)


def test_corrected_intervals_hold_at_once() -> None:
    """Five true differences of 1, five seeds each: all intervals include theirs in 95 % of all cases."""
    gaps = np.random.default_rng(0).normal(1.0, size=(1000, 5, 5))
    covered = 0
    for values in gaps:
        cells, pairs = {}, []
        for place, sample in enumerate(values):
            pair = Pair("mnist", f"network {place}", "accuracy_percent", "sam", "sgd")
            cells[pair.first] = accuracy_cell(pair.first, sample)
            cells[pair.second] = accuracy_cell(pair.second, np.zeros(5))
            pairs.append(pair)
        made = compare(cells, [Claim("x", "", "", tuple(pairs))], MARGINS).values()
        intervals = [each.corrected_interval for each in made]
        covered += all(low <= 1 <= high for low, high in intervals)
    assert 0.93 < covered / len(gaps) < 0.97


def accuracy_cell(key: Key, values: Iterable[float]) -> Cell:
    """A cell with these values and no records."""
    by_seed = dict(enumerate(map(float, values)))
    wanted = Wanted(Published(0, *key, 99.0, 0.01, 5), *key[:3], ())
    return Cell(wanted, estimate(list(by_seed.values())), by_seed, {}, ())


def test_what_is_undecided_needs_more_seeds_than_there_are() -> None:
    """Ten gaps of mean 0.6 and deviation 1 decide nothing beside a margin of 1.1."""
    shape = np.array([-1.0, 1.0] * 5) * math.sqrt(0.9)
    pair = Pair("mnist", "lenet", "accuracy_percent", "sam", "sgd")
    cells = {
        pair.first: accuracy_cell(pair.first, 90.6 + shape),
        pair.second: accuracy_cell(pair.second, [90.0] * 10),
    }
    (each,) = compare(cells, [Claim("x", "", "", (pair,))], {"accuracy_percent": 1.1}).values()
    assert (each.p, each.equivalence_p) == pytest.approx((0.090, 0.074), abs=1e-3)
    assert each.outcome == Outcome.UNDECIDED
    seeds = each.seeds_to_decide
    assert seeds is not None
    assert seeds > 10
    chances = {n: chance_to_decide(each.difference.mean, 1.1, 1.0, True, 0.05, n) for n in (seeds - 1, seeds)}
    assert chances[seeds - 1] < 0.8 <= chances[seeds]


def test_what_is_decided_needs_no_seeds() -> None:
    pair = Pair("mnist", "lenet", "accuracy_percent", "sam", "sgd")
    cells = {
        pair.first: accuracy_cell(pair.first, [95.0, 95.1, 95.2]),
        pair.second: accuracy_cell(pair.second, [90.1, 90.0, 90.2]),
    }
    (each,) = compare(cells, [Claim("x", "", "", (pair,))], MARGINS).values()
    assert (each.outcome, each.seeds_to_decide) == (Outcome.BETTER, None)


def test_the_aggregate_draws_a_shared_cell_once() -> None:
    """SALR's runs against those of three methods without spread: the interval is that of SALR's mean."""
    pairs = [Pair("mnist", "lenet", "accuracy_percent", "sgd_salr", name) for name in ("sgd", "adam", "swa")]
    salr = 90 + np.random.default_rng(0).normal(size=10)
    cells = [accuracy_cell(pairs[0].first, salr)]
    cells += [accuracy_cell(pair.second, [90.0] * 10) for pair in pairs]
    made = Table(1, tuple(cells), "paper", "", ())
    found = judge([made], [Claim("x", "", "", tuple(pairs))]).verdicts[0].aggregate
    assert found is not None
    interval = found.mean_difference
    assert found.pairs == 3
    width = 2 * 1.96 * float(np.std(salr)) / math.sqrt(10)
    assert interval.high - interval.low == pytest.approx(width, rel=0.1)


def test_pairing_is_said_if_it_matters(tmp_path: Path) -> None:
    """Seeds differ by a point, methods by a tenth: paired it is certain, unpaired it is not."""
    plain = [96.0, 97.0, 98.0, 99.0]
    noise = [0.1, 0.11, 0.09, 0.1]
    each = one(tmp_path, [value + more for value, more in zip(plain, noise, strict=True)], plain)
    assert each.pairing_matters
    expected = stats.ttest_ind([p + n for p, n in zip(plain, noise, strict=True)], plain, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert (each.unpaired.low, each.unpaired.high) == pytest.approx((interval.low, interval.high), rel=1e-3)
    apart = one(tmp_path / "apart", [99.0, 99.1, 99.2], [90.0, 90.2, 90.1])
    assert not apart.pairing_matters


def test_measured_beside_published_is_welchs_test_over_all_printed_cells(tmp_path: Path) -> None:
    """The helper prints 99.0 (0.01) over 30 runs."""
    made = judged(two(tmp_path, [98.0, 98.1, 98.2], [99.0, 99.01, 98.99])).tables[0]
    plain, salr = made.cells
    expected = stats.ttest_ind_from_stats(98.1, 0.1, 3, 99.0, 0.01, 30, equal_var=False)
    assert salr.gap.p == pytest.approx(float(expected.pvalue), rel=1e-3)
    assert salr.gap_p == pytest.approx(2 * salr.gap.p)
    assert differs(salr)
    assert not differs(plain)


def test_a_changed_budget_gives_no_verdict(tmp_path: Path) -> None:
    made = two(tmp_path, [99.0, 99.1, 99.2], [90.0, 90.2, 90.1])
    assert by_letter(judged(made))["a"].measured == 1
    changed = replace(made, overrides=("trainer.epochs=1",), budget_changed=True)
    assert all(verdict.measured == 0 for verdict in judged(changed).verdicts)
    assert judged(changed).tables[0].comparisons[0].outcome == Outcome.BETTER  # shown, and not counted


def test_what_holds_by_design_is_counted(tmp_path: Path) -> None:
    """A fifth of the epochs, and 1.8 times the gradient calls of Entropy-SGD-SALR, are no findings."""
    cells = {
        "sgd": [record(tmp_path, "sgd", 0, 98.0, epochs=100)],
        "sgd_salr": [record(tmp_path, "sgd_salr", 0, 98.0, epochs=20)],
        "entropy_sgd_salr": [record(tmp_path, "entropy_sgd_salr", 0, 98.0, epochs=20)],
    }
    run = cells["entropy_sgd_salr"][0]
    run.write_json("summary.json", {**(run.read_json("summary.json") or {}), "gradient_calls": 46800 * 1.8})
    (epochs, fifths), (calls, counted) = judge([table(tmp_path, cells)], CLAIMS, FACTS).facts
    assert (epochs.quantity, calls.quantity) == ("epochs", "gradient_calls")
    assert all(count.holds and math.isclose(count.low, 0.2) for count in fifths)
    assert {count.method: (count.low, count.holds) for count in counted} == {
        "entropy_sgd_salr": (pytest.approx(1.8), False),
        "sgd_salr": (1.0, True),
    }
