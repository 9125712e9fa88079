"""The Makefile: a target takes the variables that its help names, and refuses the others in one line."""

import os
import re
import subprocess

import pytest

from tests.helpers.commands import ROOT

VARIABLES = ("SEEDS", "PRESET", "NETWORKS", "LAUNCHER", "JOBS", "WORKERS", "ARGS")


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-n", "-C", ROOT, *words], capture_output=True, text=True, check=False)


def targets() -> dict[str, list[str]]:
    """Return the variables that the help names, by target; ``table1`` takes those of ``tables``."""
    shown = subprocess.run(["make", "-s", "-C", ROOT, "help"], capture_output=True, text=True, check=True)
    found = {}
    for line in shown.stdout.splitlines()[1:]:
        variables = re.search(r" \[([A-Z =]+)\]$", line)
        found[line.split()[0]] = [] if variables is None else variables[1].replace("=", "").split()
    return found | {"table1": found["tables"]}


TARGETS = targets()


def test_the_help_names_the_targets() -> None:
    assert TARGETS.keys() > {"help", "setup", "demo", "table1", "study", "report", "wandb-sync", "clean"}
    assert TARGETS["report"] == ["SEEDS", "PRESET", "ARGS"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_uses_the_variables_that_its_help_names_and_no_others(target: str) -> None:
    for name in VARIABLES:
        done = make(target, f"{name}=given")
        if name in TARGETS[target]:
            assert done.returncode == 0, done.stderr
            assert "given" in done.stdout
        else:
            assert done.returncode == 2
            assert f"make {target}: {name}= has no effect; expected " in done.stderr
            assert done.stderr.count("\n") == 1
            assert "scripts" not in done.stdout


@pytest.mark.parametrize("word", ["NETWORK=lenet", "seeds=2", "STAMP=x"])
def test_a_misspelt_variable_is_refused(word: str) -> None:
    done = make("table1", word)
    assert done.returncode == 2
    assert f"make table1: {word.split('=')[0]}= has no effect; expected SEEDS= PRESET=" in done.stderr


def test_arguments_are_not_taken_from_the_environment() -> None:
    command = ["make", "-n", "-C", str(ROOT), "test"]
    done = subprocess.run(
        command, env={**os.environ, "ARGS": "foo"}, capture_output=True, text=True, check=True
    )
    assert "foo" not in done.stdout


def test_a_variable_is_for_one_of_several_targets() -> None:
    assert make("data", "report", "SEEDS=3").returncode == 0
    assert make("data", "demo", "SEEDS=3").returncode == 2
