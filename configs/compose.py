"""From a command line to checked configurations, or to one clear line about what is wrong. No torch here."""

import difflib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .schema import Config, check, register

FOLDER = Path(__file__).parent
GROUPS = ("dataset", "model", "optimizer", "trainer", "tracker", "experiment")

LAUNCHER = "hydra.launcher."  # its values are the cluster's, and some launchers take any that are added

NAMES = ("dataset.name", "model.name", "optimizer.name")  # a record under another one would be a false one

register()


class ConfigError(Exception):
    """A configuration that cannot be meant: one line saying what, where and what was expected."""


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / group).glob("*.yaml"))


def expand(overrides: list[str]) -> list[list[str]]:
    """Every combination of a multirun's overrides: ``["a=1,2", "b=3"]`` gives ``[["a=1", "b=3"], ["a=2", "b=3"]]``."""
    sweeps = []
    for override in _parse(overrides):
        key = override.get_key_element()
        try:
            values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
            sweeps.append([f"{key}={value}" for value in values])
        except HydraException as error:
            raise ConfigError(f"{override.input_line}: expected values to take one after another, as in seeds=1,2") from error
    return [list(combination) for combination in itertools.product(*sweeps)]


def load(overrides: list[str]) -> Config:
    """The checked configuration that the overrides ask for.

    Raises:
        ConfigError: an unknown choice or key, a wrong type, an impossible value, or parts that do not fit together.
    """
    check_choices(overrides)
    try:
        return checked(_compose(overrides))
    except (HydraException, OmegaConfBaseException, AssertionError) as error:
        raise ConfigError(_explain(error, overrides)) from error


def checked(composed: DictConfig) -> Config:
    """What Hydra has composed, as typed objects. Raises ConfigError where a value is impossible."""
    try:
        config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
        check(config)
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from error
    return config


def plain(config: Config) -> dict[str, Any]:
    """The configuration as YAML and W&B can hold it: no objects, enumerations by name."""
    container = OmegaConf.to_container(OmegaConf.structured(config), resolve=True, throw_on_missing=True, enum_to_str=True)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def recorded(values: Mapping[str, Any]) -> Config:
    """The checked configuration of a record, which holds what :func:`plain` has made of it; what it lacks is as it is today.

    Raises:
        ConfigError: it is not a configuration, or none that this version knows.
    """
    try:
        # Data sets and networks have types of their own, which their files name; all optimizers have one.
        chosen = [f"{group}={values[group]['name']}" for group in ("dataset", "model")]
    except (KeyError, TypeError) as error:
        raise ConfigError("the recorded configuration names no dataset or no model; expected what train.py records") from error
    check_choices(chosen)
    try:
        composed = OmegaConf.merge(_compose(chosen), dict(values))
    except OmegaConfBaseException as error:
        raise ConfigError(f"the recorded configuration is not one of this version: {_first_line(error)}") from error
    assert isinstance(composed, DictConfig)
    return checked(composed)


def _parse(overrides: list[str]) -> list[Any]:
    try:
        return OverridesParser.create(_hydra().config_loader()).parse_overrides(overrides)
    except OverrideParseException as error:
        raise ConfigError(f"{error.override!r} is not understood; expected name=value, as in optimizer=sgd_salr") from error


def check_choices(overrides: list[str]) -> None:
    """Raises ConfigError unless each override is one of those that can only choose: nothing else is given to Hydra."""
    for override in _parse(overrides):
        if override.package is not None:
            raise ConfigError(f"{override.input_line}: a group has one place; expected {override.key_or_group}=...")
        if override.key_or_group in NAMES:
            group = override.key_or_group.partition(".")[0]
            expected = ", ".join(choices(group))
            raise ConfigError(f"{override.input_line}: a name is its file's; choose with {group}=, expected one of {expected}")
        if override.key_or_group == "cells":
            raise ConfigError(f"{override.input_line}: the cells are an experiment's; expected experiment=...")
        added = override.is_add() or override.is_force_add()
        if added and override.key_or_group not in GROUPS and not override.key_or_group.startswith(LAUNCHER):
            raise ConfigError(f"{override.input_line}: nothing reads an added value; expected one that the configuration has")
        if "_target_" in override.input_line:
            raise ConfigError(f"{override.input_line}: no value names code; expected one that the configuration has")
        if override.is_delete():
            raise ConfigError(f"{override.input_line}: nothing can be left out; expected name=value")
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: several values need -m, as in train.py -m {override.input_line}")
        if override.key_or_group.startswith("hydra"):
            _check_launching(override)
        if override.key_or_group in GROUPS:
            group, chosen, known = override.key_or_group, override.value(), choices(override.key_or_group)
            if chosen is None and group == "experiment":
                continue
            if chosen not in known:
                raise ConfigError(f"{group}={chosen}: unknown; choose from {', '.join(known)}{_nearest(str(chosen), known)}")


def _check_launching(override: Any) -> None:
    """Hydra would call what its own part names (log handlers, callbacks, what search paths add): only the launcher is open."""
    if override.key_or_group == "hydra/launcher":
        known = _hydra().config_loader().get_group_options("hydra/launcher")
        if override.value() not in known:
            raise ConfigError(f"{override.input_line}: unknown; choose from {', '.join(known)}")
    elif not override.key_or_group.startswith(LAUNCHER):
        raise ConfigError(f"{override.input_line}: Hydra's own part is closed; expected hydra/launcher= or hydra.launcher.NAME=")
    elif "$" in override.input_line:  # it could decode to a text that the checks have not seen
        raise ConfigError(f"{override.input_line}: a launcher's values are plain; expected one without $")


def _explain(error: BaseException, overrides: list[str]) -> str:
    """Which override is to blame, and what could have been meant."""
    for override in _parse(overrides):
        if override.key_or_group.startswith("hydra"):
            continue  # it is Hydra's own part, and so are the words about it
        path = override.key_or_group.split(".")
        node: Any = _without_values(overrides)
        for depth, name in enumerate(path):
            if node is None:
                part = ".".join(path[:depth])
                return (
                    f"{override.input_line}: this configuration has no {part} part; choose one that has ({_having(path[:depth])})"
                )
            if not isinstance(node, DictConfig) or name not in node:
                known = sorted(map(str, node)) if isinstance(node, DictConfig) else []
                where = ".".join(path[:depth]) or "the configuration"
                return f"{override.input_line}: {where} has no {name!r}; it has {', '.join(known)}{_nearest(name, known)}"
            node = node[name]
    return _first_line(error)


def _without_values(overrides: list[str]) -> DictConfig:
    """What the overrides' choices compose to, without the values that they set."""
    chosen = [override.input_line for override in _parse(overrides) if override.key_or_group in GROUPS]
    return _compose(chosen)


def _compose(overrides: list[str]) -> DictConfig:
    _hydra()
    return compose("config", overrides)


def _hydra() -> GlobalHydra:
    """Hydra keeps the files that it has read as long as it stays initialised, which makes a table's plan several times faster."""
    if not GlobalHydra.instance().is_initialized():
        initialize_config_dir(str(FOLDER), version_base="1.3")
    return GlobalHydra.instance()


def _having(path: list[str]) -> str:
    """The choices of a group whose files have the given part."""
    group, names = path[0], path[1:]
    having = []
    for choice in choices(group):
        node: Any = OmegaConf.load(FOLDER / group / f"{choice}.yaml")
        for name in names:
            node = node.get(name) if isinstance(node, DictConfig) else None
        if node is not None:
            having.append(f"{group}={choice}")
    return ", ".join(having)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _first_line(error: BaseException) -> str:
    """The error's own words in one line, with the key that they are about."""
    cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
    line = str(cause).strip().splitlines()[0]
    key = getattr(cause, "full_key", None)
    return f"{key}: {line}" if key and key not in line else line
