"""The words of a command line: taken apart, multiplied out, and refused if they do more than choose a value.

Nothing is composed here, but Hydra's parser is used, so that a word means what Hydra takes it to mean.
"""

import difflib
import itertools
from collections.abc import Sequence
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from experiments.schema.paths import CONFIGS

GROUPS = ("dataset", "model", "optimizer", "trainer", "tracker")
"""The groups of a cell's configuration: folders of ``configs/`` that a word chooses a file of."""

CHOSEN = GROUPS[:3]
"""Those that a cell is named after."""

PATHS = ("results", "dataset.root", "tracker.directory")

LAUNCHER = "hydra.launcher."  # a cluster's values, and some launchers take any that are added

NAMES = ("dataset.name", "model.name", "optimizer.name")  # a record under another name would be a false one

FACTS = tuple(
    f"dataset.{name}"
    for name in ("inputs", "train_size", "channels", "height", "width", "classes", "vocabulary")
)
"""What the data decide, whatever a word says."""


class ConfigError(ValueError):
    """A configuration that is not possible: one line that says what, where and what was expected."""


def choices(group: str) -> list[str]:
    """Return the names of a group's files."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def hydra() -> GlobalHydra:
    """Return Hydra, started once. It keeps the files that it has read, which makes it fast."""
    if not GlobalHydra.instance().is_initialized():
        initialize_config_dir(str(CONFIGS), job_name="salr", version_base="1.3")
    return GlobalHydra.instance()


def parse(words: Sequence[str]) -> list[Any]:
    """Return Hydra's overrides; ``input_line`` is the word that Hydra composes from. Raises ConfigError.

    The value of a path is taken literally, whatever characters it has.
    """
    try:
        parser = OverridesParser.create(hydra().config_loader())
        return parser.parse_overrides([_literal_path(word) for word in words])
    except OverrideParseException as error:
        name, equals, value = str(error.override).partition("=")
        example = f'"{name}={quoted(value)}"' if equals and name and value else "optimizer=sgd_salr"
        line = f"{error.override!r} is not understood; expected name=value, as in {example}"
        raise ConfigError(line) from error


def quoted(value: str) -> str:
    """Return a value as Hydra reads it literally (but for ``${...}``)."""
    mark = '"' if "'" in value else "'"
    return mark + value.replace(mark, f"\\{mark}") + mark


def _literal_path(word: str) -> str:
    """Quote the value of a path, unless it is quoted, empty or null."""
    name, _, value = word.partition("=")
    if name not in PATHS or value in ("", "null") or value[0] in "'\"":
        return word
    return f"{name}={quoted(value)}"


def names_set(override: Any) -> list[str]:
    """Return the options that a parsed word sets: of ``a.b={c:1,d:2}`` these are ``a.b.c`` and ``a.b.d``."""

    def inside(name: str, value: object) -> list[str]:
        if not isinstance(value, dict):
            return [name]
        return [each for key, item in value.items() for each in inside(f"{name}.{key}", item)]

    return inside(override.key_or_group, override.value())


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return every combination of a multirun's values.

    ``["a=1,2", "b=3"]`` gives ``[["a=1", "b=3"], ["a=2", "b=3"]]``.
    """
    sweeps = []
    for override in parse(overrides):
        key = override.get_key_element()
        try:
            sweep = override.is_sweep_override()
            values = override.sweep_string_iterator() if sweep else [override.get_value_element_as_str()]
            sweeps.append([f"{key}={value}" for value in values])
        except HydraException as error:
            raise ConfigError(f"{override.input_line}: expected a list of values, as in seeds=1,2") from error
    return [list(combination) for combination in itertools.product(*sweeps)]


def is_launching(override: str) -> bool:
    """Whether a word is for the launcher (``hydra/launcher=...``, ``hydra.launcher...``)."""
    return override.lstrip("+").startswith("hydra")


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError unless each word only sets a value or chooses a file of ``configs/``."""
    for override in parse(overrides):
        line, key = override.input_line, override.key_or_group
        if override.package is not None:
            raise ConfigError(f"{line}: @package is not allowed; expected {key}=...")
        if key in NAMES or key in FACTS:
            kind, group = "a name" if key in NAMES else "a fact of the data set", key.partition(".")[0]
            known = ", ".join(choices(group))
            raise ConfigError(f"{line}: {kind} cannot be set; choose with {group}=, expected one of {known}")
        added = override.is_add() or override.is_force_add()
        if added and key not in GROUPS and not key.startswith(LAUNCHER):
            raise ConfigError(f"{line}: unknown key; expected one that the configuration has")
        if "_target_" in line:
            raise ConfigError(f"{line}: _target_ is not allowed; expected a key that the configuration has")
        if override.is_delete():
            raise ConfigError(f"{line}: nothing can be left out; expected name=value")
        if override.is_sweep_override():
            raise ConfigError(f"{line}: several values need -m, as in train.py -m {line}")
        if key.startswith("hydra"):
            _check_launching(override)
        if key in GROUPS:
            check_choice(key, override.value())


def check_choice(group: str, chosen: object) -> None:
    """Raise ConfigError unless a group has the chosen file."""
    known = choices(group)
    if chosen not in known:
        raise ConfigError(
            f"{group}={chosen}: unknown; choose from {', '.join(known)}{nearest(str(chosen), known)}"
        )


def nearest(name: str, known: list[str]) -> str:
    """Return a hint at the known name that was probably meant; empty if none is near."""
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _check_launching(override: Any) -> None:
    """Allow only the launcher: Hydra would call what its other keys name (log handlers, callbacks)."""
    line = override.input_line
    if override.key_or_group == "hydra/launcher":
        known = hydra().config_loader().get_group_options("hydra/launcher")
        if override.value() not in known:
            raise ConfigError(f"{line}: unknown; choose from {', '.join(known)}")
    elif not override.key_or_group.startswith(LAUNCHER):
        raise ConfigError(
            f"{line}: Hydra's own keys are closed; expected hydra/launcher= or hydra.launcher.NAME="
        )
    elif "$" in line:  # it could decode to a text that has not been checked
        raise ConfigError(f"{line}: a launcher's value must be plain; expected one without $")
