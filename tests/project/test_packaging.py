"""What is shipped, and who may import whom: the wheel, the bare library, and the floors of the house."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = PROJECT["dependencies"] + [
    line for extra in PROJECT["optional-dependencies"].values() for line in extra
]

# A room imports from the standard library, from itself, and from these.
FLOORS = {
    "salr.sharpness": {"torch", "scipy"},  # scipy in one function alone, Keskar's box
    "salr.optim": {"torch", "salr.sharpness"},
    "models": {"torch", "torchvision", "timm"},
    "data": {"torch", "torchvision", "numpy", "sklearn"},
    "salr.records": {"numpy", "pandas", "yaml"},
    "salr.training": {"torch", "rich", "wandb", "salr.sharpness", "salr.optim", "salr.records"},
    "salr.reporting": {"jinja2", "matplotlib", "numpy", "pandas", "scipy", "salr.records"},
}
TOP_FLOOR = {"configs", "scripts", "train"}  # these compose and start, and import what they need


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for pattern in (
        "salr/**/*.py",
        "models/**/*.py",
        "data/**/*.py",
        "configs/**/*.py",
        "scripts/**/*.py",
        "train.py",
    )
    for path in sorted(ROOT.glob(pattern))
}


def imports(name: str) -> Iterator[str]:
    """Absolute names of all that a module imports, anywhere in it: `from a.b import c` is a.b.c where that is a module."""
    path = MODULES[name]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
                up = package[: len(package) - node.level + 1]
                source = ".".join([*up, source] if source else up)
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole in MODULES else source


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def from_outside(target: str) -> bool:
    return target.split(".")[0] not in sys.stdlib_module_names


def distribution(requirement: str) -> str:
    """The package named by a requirement line, spelt in the normal form."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release would be; the backend comes with the development extra, so no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_salr_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"salr"}
    assert "salr/py.typed" in names
    shipped = {name for name in names if name.endswith(".py")}
    assert shipped == {
        path.relative_to(ROOT).as_posix() for name, path in MODULES.items() if within(name, "salr")
    }


def test_wheel_needs_torch_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(entry))
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [distribution(line) for line in needed] == ["torch"]
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert metadata["License-Expression"] == "MIT"


@pytest.mark.parametrize("room", ["salr.optim", "salr.sharpness"])
def test_library_imports_nothing_of_the_experiments(wheel: Path, room: str, tmp_path: Path) -> None:
    if room not in MODULES:
        pytest.skip(f"{room} is not there")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    # -I keeps the checkout off the path; the unpacked wheel goes in front of an editable installation.
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {room} as m; print(m.__file__, *sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where, *loaded = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    experiments = {
        "hydra",
        "matplotlib",
        "omegaconf",
        "pandas",
        "rich",
        "scipy",
        "sklearn",
        "timm",
        "torchvision",
        "wandb",
    }
    rooms = {"salr.records", "salr.training", "salr.reporting", "models", "data", "configs"}
    assert not (experiments | rooms) & set(loaded)


@pytest.mark.parametrize("room", ["salr.records", "salr.reporting"])
def test_records_and_reports_do_without_torch(room: str) -> None:
    if room not in MODULES:
        pytest.skip(f"{room} is not there")
    script = f"import sys, {room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name != "salr" and name.split(".")[0] not in TOP_FLOOR]
)
def test_a_module_imports_from_floors_below(name: str) -> None:
    rooms = [room for room in FLOORS if within(name, room)]
    assert rooms, f"{name} lives in no room of the house: {[*FLOORS, *sorted(TOP_FLOOR)]}"
    allowed = FLOORS[rooms[0]] | set(rooms)
    wrong = {t for t in imports(name) if from_outside(t) and not any(within(t, room) for room in allowed)}
    assert not wrong, f"{name} imports {sorted(wrong)}; {rooms[0]} may import {sorted(FLOORS[rooms[0]])}"


@pytest.mark.parametrize("name", MODULES)
def test_no_relative_import_climbs(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    climbing = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 1]
    assert not climbing, f"lines {climbing}: write the import from the top"


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_init_only_hands_names_on(name: str) -> None:
    for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        dunder = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__version__")
        assert docstring or dunder or isinstance(node, ast.Import | ast.ImportFrom), f"line {node.lineno}"


def test_no_imports_in_a_circle() -> None:
    graph = {
        name: {target for target in imports(name) if target in MODULES and target != name} for name in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_every_imported_package_is_declared() -> None:
    """Each import is of a package that the project names itself, not one that happens to come along."""
    declared = {distribution(line) for line in REQUIREMENTS}
    ours = TOP_FLOOR | {room.split(".")[0] for room in FLOORS}
    packages = packages_distributions()
    for name in MODULES:
        for package in {target.split(".")[0] for target in imports(name) if from_outside(target)} - ours:
            owners = {distribution(owner) for owner in packages.get(package, [package])}
            assert owners & declared, f"{name} imports {package}, of {sorted(owners)}: not in pyproject.toml"


def test_every_declared_package_has_a_tested_version() -> None:
    pins = re.findall(
        r"^([\w-]+)==[\d.]+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {distribution(line) for line in REQUIREMENTS} <= {distribution(pin) for pin in pins}
