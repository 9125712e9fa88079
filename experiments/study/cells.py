"""The study as cells: a search for each method's rate, and the parts that follow from what it has chosen.

``configs/experiment/study.yaml`` names them all. Imports neither torch nor SciPy.
"""

import copy
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any

from omegaconf import OmegaConf

from experiments.records import records_of
from experiments.schema import Cell, Config, ConfigError, load
from experiments.schema.config import check, has_effect
from experiments.schema.overrides import GROUPS
from experiments.schema.paths import CONFIGS
from salr.records import Run, State

NAME = "study"
SEARCH, FULL = "search", "full"
PRESETS = ("paper", "smoke")

BASE_RATE = "optimizer.base.lr"

RATES = (BASE_RATE, "dataset.recipe.sgd_lr", "dataset.recipe.adam_lr")
BUDGETS = ("dataset.budget", "trainer.epochs")

METRIC = "validation_accuracy"
"""What a rate is chosen by, at the last epoch."""

OPEN_RATE = 0.123456
"""A rate at which nothing is trained, so that a cell whose rate is open has no record."""

EXAMPLES: dict[str, int | None] = {
    "ascent_descent": None,
    "keskar_train": 10_000,
    "sam": None,
    "hessian_top": 10_000,
    "train_loss": None,
}
"""What final weights are measured for, and on how many training images; None for all.

Nothing is measured on the test set, whose error the values are correlated with.
"""


def examples_of(preset: str) -> dict[str, int | None]:
    """Return the measures of a preset with their numbers of images."""
    return EXAMPLES if preset == "paper" else dict.fromkeys(EXAMPLES, 200)


@dataclass
class Method:
    """A method as overrides; ``scaled`` options are multiples of its rate."""

    words: str
    scaled: dict[str, float] = field(default_factory=dict)


@dataclass
class Search:
    """Phase 1: every method at every rate."""

    words: str
    rates: list[float]
    seeds: list[int]


@dataclass
class Part:
    """Cells of phase 2: some methods, at their chosen rates.

    Attributes:
        table: which table of the report shows it.
        about: how it differs from the full runs, for people.
        times: the multiple of the chosen rate.
        factor_of: take the rate and the epochs of this method instead, and its mean factor as the multiple.
        seeds: how many, from 0.
        flatness: whether the final weights are measured for how flat they are.
    """

    methods: list[str]
    table: str = FULL
    about: str = ""
    words: str = ""
    times: float = 1.0
    factor_of: str | None = None
    seeds: int = 3
    flatness: bool = False


@dataclass
class Plan:
    """The file, without its smaller form."""

    cells: str
    methods: dict[str, Method]
    search: Search
    parts: dict[str, Part]


@dataclass(frozen=True)
class StudyCell(Cell):
    """A cell and its place in the study."""

    part: str
    method: str
    rate: float


class Study:
    """What the file asks for, and what the records in ``results`` already decide.

    Args:
        preset: ``paper``, or ``smoke`` for a tiny form on embedded data.
        overrides: of all cells, such as ``results=DIR``.

    Raises:
        ConfigError: a wrong preset, or overrides that the cells cannot have.
    """

    def __init__(self, preset: str, overrides: Sequence[str]) -> None:
        if preset not in PRESETS:
            raise ConfigError(f"preset {preset}: expected one of {', '.join(PRESETS)} for the study")
        self.preset = preset
        self.plan = _read(preset)
        for word in overrides:
            for name in self.varied():
                if _touches(word.split("=")[0], name):
                    raise ConfigError(f"{word}: the study sets {name} itself; leave it out")
        self._overrides = tuple(overrides)
        self.changes = [word for word in overrides if has_effect(word.lstrip("+").split("=")[0])]
        """The overrides that change numbers."""
        self.search_cells()  # composed at once, so that wrong overrides are refused at once

    def varied(self) -> list[str]:
        """Return the options that differ between the study's cells."""
        methods, parts = self.plan.methods.values(), self.plan.parts.values()
        lists = [self.plan.search.words, *(each.words for each in methods), *(each.words for each in parts)]
        words = [word.split("=")[0] for each in lists for word in shlex.split(each)]
        scaled = [name for method in methods for name in method.scaled]
        return list(dict.fromkeys(["seeds", *RATES, *BUDGETS, *words, *scaled]))

    def search_cells(self) -> list[StudyCell]:
        """Return the cells of phase 1, method after method."""
        return [self.search_cell(name, rate) for name in self.plan.methods for rate in self.plan.search.rates]

    def search_cell(self, method: str, rate: float) -> StudyCell:
        return self._cell(SEARCH, method, rate, self.plan.search.words, self.plan.search.seeds)

    def planned(self) -> list[StudyCell]:
        """Return all cells that can be trained: phase 1, and what follows from its finished parts."""
        later = (self.cell(part, method) for part, method in self._later())
        return [*self.search_cells(), *(cell for cell in later if cell is not None)]

    def everything(self) -> list[StudyCell]:
        """Return the cells of the whole study, to count its cost. An open rate is taken to be OPEN_RATE."""
        rates = [(part, method, self.rate(part, method) or OPEN_RATE) for part, method in self._later()]
        return [*self.search_cells(), *(self.cell_at(*each) for each in rates)]

    def _later(self) -> list[tuple[str, str]]:
        """Return the parts of phase 2 with each of their methods."""
        return [(name, method) for name, part in self.plan.parts.items() for method in part.methods]

    def cell(self, part: str, method: str) -> StudyCell | None:
        """Return a cell of phase 2; None until the records decide its rate."""
        rate = self.rate(part, method)
        return None if rate is None else self.cell_at(part, method, rate)

    def rate(self, part: str, method: str) -> float | None:
        """Return the rate of a cell of phase 2, if the records decide it."""
        asked = self.plan.parts[part]
        chosen = self.best_rate(asked.factor_of or method)
        if chosen is None or asked.factor_of is None:
            return None if chosen is None else chosen * asked.times
        factor = self.mean_factor(asked.factor_of)
        return None if factor is None else _rounded(chosen * factor)

    def why_no_rate(self, part: str, method: str) -> str:
        """Return why the rate of a cell of phase 2 is open, for people."""
        source = self.plan.parts[part].factor_of or method
        if self.best_rate(source) is None:
            scores = [self.score(source, rate) for rate in self.plan.search.rates]
            return "not chosen yet" if None in scores else "diverged at every rate"
        cell = self.cell(FULL, source)
        states = [] if cell is None else [run.state() for run in records_of(cell.config)]
        return "no mean factor: a run diverged" if State.DIVERGED in states else "not chosen yet"

    def best_rate(self, method: str) -> float | None:
        """Return the rate with the highest mean validation accuracy; of equal ones the smallest.

        A rate at which a run diverged is not chosen.

        Returns:
            None if a run of the method's search has not ended yet, or if every rate diverged.
        """
        scores = {rate: self.score(method, rate) for rate in sorted(self.plan.search.rates)}
        if None in scores.values():
            return None
        best = max(scores, key=lambda rate: (scores[rate] or 0.0, -rate))
        return best if scores[best] else None

    def score(self, method: str, rate: float) -> float | None:
        """Return the mean validation accuracy at a rate: None if a run has not ended, 0 if one diverged."""
        runs = records_of(self.search_cell(method, rate).config)
        if not all(run.state().settled for run in runs):
            return None
        summaries = [_summary(run) for run in runs]
        values = [0.0 if each is None else float(each[METRIC]) for each in summaries]
        return 0.0 if min(values) == 0 else round(math.fsum(values) / len(values), 6)  # so that ties are ties

    def mean_factor(self, method: str) -> float | None:
        """Return the mean factor over all iterations of the full runs; None until all have finished."""
        cell = self.cell(FULL, method)
        runs = [] if cell is None else records_of(cell.config)
        if not runs or any(_summary(run) is None for run in runs):
            return None
        factors = [row["lr_factor_mean"] for run in runs for row in run.read_metrics()]
        return math.fsum(factors) / len(factors)

    def at_edge(self, method: str) -> bool:
        """Return whether the chosen rate is the smallest or the largest: a better one may lie outside."""
        rates = self.plan.search.rates
        return self.best_rate(method) in (min(rates), max(rates))

    def cell_at(self, part: str, method: str, rate: float) -> StudyCell:
        """Return a cell of phase 2 at any rate."""
        asked = self.plan.parts[part]
        words = asked.words
        if asked.factor_of is not None:
            words += f" trainer.epochs={self.cell_at(FULL, asked.factor_of, 1.0).config.epochs}"
        return self._cell(part, method, rate, words, range(asked.seeds))

    def _cell(self, part: str, method: str, rate: float, words: str, seeds: Iterable[int]) -> StudyCell:
        chosen = self.plan.methods[method]
        multiples = {BASE_RATE: 1.0, **chosen.scaled}
        rates = {name: _rounded(times * rate) for name, times in multiples.items()}
        lists = [self.plan.cells, chosen.words, " ".join(f"{name}=1" for name in rates), words]
        composed = _later_count([word for each in lists for word in shlex.split(each)], self._overrides)
        config = copy.deepcopy(_load(tuple(composed.values())))
        composed["seeds"] = f"seeds=[{','.join(map(str, seeds))}]"
        config.seeds = list(seeds)
        for name, value in rates.items():  # composing takes long, and a method's rates differ in numbers only
            composed[name] = f"{name}={value!r}"
            *parents, leaf = name.split(".")
            setattr(reduce(getattr, parents, config), leaf, value)
        check(config)
        tags = [NAME if self.preset == "paper" else f"{NAME}-{self.preset}", f"{NAME}-{part}"]
        config.tracker.tags = [*(config.tracker.tags or []), *tags]
        return StudyCell(config, tuple(composed.values()), part, method, rate)


def _touches(option: str, name: str) -> bool:
    """Return whether options overlap: the same one, or one inside the other. A group only chooses a file."""
    outer, inner = sorted((option, name), key=len)
    return option == name or (inner.startswith(f"{outer}.") and outer not in GROUPS)


def _later_count(words: Sequence[str], overrides: Sequence[str]) -> dict[str, str]:
    """Return the words by option, each once: the last one counts, in the place of the first one."""
    return {word.split("=")[0]: word for word in [*words, *overrides]}


def _rounded(value: float) -> float:
    """Return a number without the binary noise of a product, so that it names a run."""
    return float(f"{value:.6g}")


@cache
def _load(overrides: tuple[str, ...]) -> Config:
    return load(overrides)


def _read(preset: str) -> Plan:
    file: Any = OmegaConf.load(CONFIGS / "experiment" / f"{NAME}.yaml")
    smaller = file.pop("smoke")
    typed = OmegaConf.merge(OmegaConf.structured(Plan), file, smaller if preset == "smoke" else {})
    plan: Plan = OmegaConf.to_object(typed)  # type: ignore[assignment]
    return plan


def _summary(run: Run) -> dict[str, Any] | None:
    """Return the summary of a finished run."""
    return run.read_json("summary.json") if run.state() is State.FINISHED else None
