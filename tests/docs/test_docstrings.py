"""The examples of the public docstrings do what they say."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import salr.closures
import salr.optim
import salr.records
import salr.sharpness

PACKAGES = (salr.optim, salr.sharpness, salr.closures, salr.records)
MODULES = [
    "salr.costs",
    *sorted(
        f"{package.__name__}.{module.name}"
        for package in PACKAGES
        for module in pkgutil.iter_modules(package.__path__)
    ),
]
WITHOUT = {
    "Closure",  # a type
    "atomic",  # a module
}
"""Public names that show no example."""


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_right(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_everything_public_shows_an_example(package: object) -> None:
    public = {name: getattr(package, name) for name in package.__all__}  # type: ignore[attr-defined]
    shown = [name for name, thing in public.items() if ">>>" in (inspect.getdoc(thing) or "")]
    assert set(public) - WITHOUT <= set(shown)
