"""From overrides, or from a record, to a checked configuration, or to one line that says what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.schema.config import RETIRED, TAKEN, Config, check, register
from experiments.schema.overrides import (
    GROUPS,
    ConfigError,
    check_overrides,
    choices,
    names_set,
    nearest,
    parse,
)

register()


def load(overrides: Sequence[str]) -> Config:
    """Return the checked configuration that the overrides ask for.

    Raises:
        ConfigError: an unknown choice or key, a wrong type, an impossible value, or parts that do not fit.
    """
    return checked(_composed(overrides))


HYDRAS_OWN = ("help", "hydra_help", "output", "launcher", "sweeper", "job_logging", "hydra_logging")
"""Parts of Hydra that only its command line needs. To compose them takes a fifth of the time."""

Choices = tuple[str, str, str]
"""The files that a cell chooses: data set, network and optimizer."""


def words_of(choices: Choices) -> list[str]:
    """Return the words that choose a cell's files."""
    return [f"{group}={name}" for group, name in zip(GROUPS, choices, strict=False)]


def load_all(choices: Sequence[Choices], overrides: Sequence[str]) -> list[Config]:
    """Return what :func:`load` gives for each of the choices with the same other overrides, but faster.

    Hydra takes a tenth of a second for a cell. The groups of a cell refer to each other only by
    interpolation, which comes later. So one composition reads all files, and cells are made of its parts.

    Raises:
        ConfigError: as :func:`load`.
    """
    if not choices:
        return []
    root = _composed([*words_of(choices[0]), *overrides])
    try:
        parts = _parts(choices, overrides)
    except (HydraException, OmegaConfBaseException, AssertionError):
        # An override does not fit some of the files. The composition of a cell that has them says which one.
        return [load([*words_of(cell), *overrides]) for cell in choices]
    configs: dict[Choices, Config] = {}
    placed: dict[str, str] = {}
    # To place a part is to copy it. The optimizers are the largest, then the data sets.
    for cell in sorted(set(choices), key=lambda cell: (cell[2], cell[0], cell[1])):
        for group, name in zip(GROUPS, cell, strict=False):
            if placed.get(group) != name:
                root[group] = parts[group][name]
                placed[group] = name
        _check_milestones(root, overrides)
        configs[cell] = checked(root)
    return [configs[cell] for cell in choices]


def _parts(choices: Sequence[Choices], overrides: Sequence[str]) -> DictConfig:
    """Compose all files that the cells choose: ``parts.optimizer.sgd_salr``, with the values that are set."""
    files = [list(dict.fromkeys(column)) for column in zip(*choices, strict=True)]
    chosen = dict(zip(GROUPS, files, strict=False))
    words = [f"+{group}@{group}.{name}={name}" for group, names in chosen.items() for name in names]
    for override in parse(overrides):
        group, dot, key = override.input_line.partition(".")
        if dot and group in chosen:
            words += [f"{group}.{name}.{key}" for name in chosen[group]]
    return _compose(words, "parts")


def checked(composed: DictConfig) -> Config:
    """Return what Hydra has composed as typed objects. Raises ConfigError if a value is impossible."""
    try:
        config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
        config.results = str(Path(config.results).expanduser()) if config.results else ""
        check(config)
    except (ValueError, RuntimeError, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from error
    return config


def plain(config: Config) -> dict[str, Any]:
    """Return the configuration as YAML and W&B can hold it: no objects, enumerations by name."""
    values: dict[str, Any] = _without_enums(asdict(config))
    return values


def _without_enums(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {name: _without_enums(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_enums(item) for item in value]
    return value


def recorded(values: Mapping[str, Any]) -> Config:
    """Return the checked configuration of a record, which holds what :func:`plain` has made of it.

    Retired keys are ignored. A key that the record lacks has today's default.

    Raises:
        ConfigError: it is not a configuration, or none that this version knows.
    """
    try:
        # The files of a data set and a network name their types; all optimizers have one type.
        chosen = [f"{group}={values[group]['name']}" for group in ("dataset", "model")]
    except (KeyError, TypeError) as error:
        line = "the recorded configuration names no dataset or no model; expected what train.py records"
        raise ConfigError(line) from error
    check_overrides(chosen)
    try:
        composed = OmegaConf.merge(_compose(chosen), _without_retired(values))
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"the recorded configuration is not one of this version: {_first_line(error)}"
        ) from error
    assert isinstance(composed, DictConfig)
    return checked(composed)


def _without_retired(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = OmegaConf.to_container(OmegaConf.create(dict(values)))
    assert isinstance(kept, dict)
    for path in RETIRED:
        *parts, name = path.split(".")
        node: Any = kept
        for part in parts:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(name, None)
    return {str(name): value for name, value in kept.items()}


def _composed(overrides: Sequence[str]) -> DictConfig:
    """Compose checked overrides. Raises ConfigError, which explains what is wrong."""
    check_overrides(overrides)
    try:
        composed = _compose(overrides)
        _check_milestones(composed, overrides)
    except (HydraException, OmegaConfBaseException, AssertionError) as error:
        raise ConfigError(_explain(error, overrides)) from error
    return composed


def _check_milestones(composed: DictConfig, overrides: Sequence[str]) -> None:
    """Raise ConfigError if a word sets what milestones leave unused: the same run would get another key."""
    schedule = composed.optimizer.schedule
    if schedule is None or schedule.milestones is None:
        return
    parts = ["optimizer.schedule"]
    if schedule.start is not None:  # the recipe's
        parts.append("dataset.recipe.schedule")
    unused = {f"{part}.{name}" for part in parts for name in ("start", "every")}
    for override in parse(overrides):
        for name in names_set(override):
            if name in unused:
                line = f"{override.input_line}: unused, since optimizer.schedule.milestones name the epochs"
                raise ConfigError(f"{line}; expected no {name} with them")


def check_recipe(overrides: Sequence[str]) -> None:
    """Raise ConfigError if a word sets a part of the recipe that the chosen optimizer does not take."""
    recipe = "dataset.recipe."
    names = [(name, each.input_line) for each in parse(overrides) for name in names_set(each)]
    parts = [
        (name, name.removeprefix(recipe).partition(".")[0], line)
        for name, line in names
        if name.startswith(recipe)
    ]
    if not parts:
        return
    optimizer = _composed(overrides).optimizer
    for name, part, line in parts:
        if part in TAKEN and f"${{{name}}}" not in str(optimizer):
            raise ConfigError(f"{line}: unused by optimizer={optimizer.name}; expected {TAKEN[part]} instead")


def _compose(overrides: Sequence[str], root: str = "config") -> DictConfig:
    without = (f"~hydra/{part}" for part in HYDRAS_OWN)
    return compose(root, [*(override.input_line for override in parse(overrides)), *without])


def _explain(error: BaseException, overrides: Sequence[str]) -> str:
    """Say which override caused the error, and what was probably meant."""
    parsed = [override for override in parse(overrides) if not override.key_or_group.startswith("hydra")]
    # Composed without the values that are set, the chosen files have every key that can be set.
    composed = _compose([override.input_line for override in parsed if override.key_or_group in GROUPS])
    for override in parsed:
        node: Any = composed
        path = override.key_or_group.split(".")
        for depth, name in enumerate(path):
            if node is None:
                part, having = ".".join(path[:depth]), _having(path[:depth])
                missing = f"this configuration has no {part} part; choose one that has ({having})"
                return f"{override.input_line}: {missing}"
            if not isinstance(node, DictConfig) or name not in node:
                known = sorted(map(str, node)) if isinstance(node, DictConfig) else []
                place = ".".join(path[:depth]) or "the configuration"
                has = f"it has {', '.join(known)}{nearest(name, known)}"
                return f"{override.input_line}: {place} has no {name!r}; {has}"
            node = node[name]
    return _first_line(error)


def _having(path: list[str]) -> str:
    """Return the choices of a group whose files have the given part."""
    group, names = path[0], path[1:]
    having = []
    for choice in choices(group):
        node: Any = _compose([f"{group}={choice}"])[group]
        for name in names:
            node = node.get(name) if isinstance(node, DictConfig) else None
        if node is not None:
            having.append(f"{group}={choice}")
    return ", ".join(having)


def _first_line(error: BaseException) -> str:
    """Return the error's own words in one line, with the key that they are about."""
    cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
    line = str(cause).strip().splitlines()[0]
    key = getattr(cause, "full_key", None)
    return f"{key}: {line}" if key and key not in line else line
