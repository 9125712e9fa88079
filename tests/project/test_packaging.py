"""The wheel, the library without extras, and which package may import which."""

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

# From the lowest layer to the highest. A package imports the standard library, itself and what is listed.
LAYERS: tuple[dict[str, set[str]], ...] = (
    {"salr.checks": set(), "salr.costs": set()},
    {
        "salr.closures": {"torch"},
        "models": {"torch", "torchvision", "timm"},
        "data": {"torch", "numpy", "sklearn", "salr.costs"},
    },
    {
        # SciPy only inside one function, Keskar's box.
        "salr.sharpness": {"torch", "scipy", "salr.closures", "salr.checks", "salr.costs"},
        "salr.records": {"numpy", "pandas", "yaml"},
    },
    {"salr.optim": {"torch", "salr.sharpness", "salr.closures", "salr.checks", "salr.costs"}},
    {
        "salr.training": {
            *("torch", "rich", "wandb"),
            *("salr.optim", "salr.records", "salr.sharpness", "salr.closures", "salr.checks", "salr.costs"),
        },
        "salr.reporting": {"jinja2", "matplotlib", "numpy", "pandas", "scipy", "salr.records"},
    },
)
MAY_IMPORT = {package: allowed for layer in LAYERS for package, allowed in layer.items()}
# These import whatever they need of the layers below, and any declared package.
APPLICATION = ("experiments",)
ENTRY_POINTS = ("train", "scripts")
TOP_LEVEL = {package.split(".")[0] for package in MAY_IMPORT} | {*APPLICATION, *ENTRY_POINTS}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(*patterns: str) -> dict[str, Path]:
    return {module_name(path): path for pattern in patterns for path in sorted(ROOT.glob(pattern))}


MODULES = modules(*(f"{package}/**/*.py" for package in sorted(TOP_LEVEL)), "train.py")
OTHERS = modules("tests/**/*.py", "examples/*.py")


def imports(name: str) -> Iterator[str]:
    """Yield the names of all that a module imports, anywhere in it.

    ``from a.b import c`` is ``a.b.c`` if that is a module, else ``a.b``.
    """
    path = {**MODULES, **OTHERS}[name]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: write the import absolute"
            source = node.module or ""
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole in MODULES else source


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def from_outside(target: str) -> bool:
    return target.split(".")[0] not in sys.stdlib_module_names


def distribution(requirement: str) -> str:
    """Return the package that a requirement names, spelt in the normal form."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as for a release. The development extra has the build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """A folder with the wheel's files and nothing else."""
    folder = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run_installed(installed: Path, code: str) -> list[str]:
    """Run code that sees the wheel's files and not the checkout; return the words that it prints.

    -I keeps the working folder off the path. The checkout, which is installed as editable, is taken off it.
    """
    path = (
        f"import sys; root = {str(ROOT)!r}; "
        "sys.path[:] = [p for p in sys.path if p != root]; "
        f"sys.path.insert(0, {str(installed)!r}); "
    )
    command = [sys.executable, "-I", "-c", path + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=installed, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_wheel_holds_only_salr(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"salr"}
    assert "salr/py.typed" in names
    shipped = {name for name in names if name.endswith(".py")}
    assert shipped == {
        path.relative_to(ROOT).as_posix() for name, path in MODULES.items() if within(name, "salr")
    }


def test_wheel_needs_only_torch(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(entry))
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [distribution(line) for line in needed] == ["torch"]
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert any("openreview.net" in url for url in metadata.get_all("Project-URL", []))


def test_every_module_of_the_wheel_works_without_the_checkout(installed: Path) -> None:
    """Every module can be imported, and nothing of the checkout is loaded with it."""
    names = [name for name in MODULES if within(name, "salr")]
    code = f"import importlib; print(*(importlib.import_module(name).__file__ for name in {names!r}))"
    loaded = run_installed(installed, code)
    assert len(loaded) == len(names)
    assert all(Path(file).is_relative_to(installed) for file in loaded)


def test_the_wheel_reads_no_files_outside_it() -> None:
    """A module may look beside itself (the page's template), but not above its package."""
    for name in [name for name in MODULES if within(name, "salr")]:
        text = MODULES[name].read_text(encoding="utf-8")
        assert not re.search(r"__file__\)(\.resolve\(\))?\.(parents|parent\.parent)", text), name


def test_an_installed_wheel_does_not_record_the_commit_of_the_repository_around_it(
    wheel: Path, tmp_path: Path
) -> None:
    """A virtual environment often lies within somebody else's repository."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    site = tmp_path / ".venv"
    zipfile.ZipFile(wheel).extractall(site)
    code = "from salr.training.provenance import provenance; import torch; "
    assert run_installed(site, code + "print(provenance(torch.device('cpu'))['commit'])") == ["None"]


@pytest.mark.parametrize("package", ["salr.optim", "salr.sharpness", "salr.closures"])
def test_the_library_loads_nothing_of_the_experiments(installed: Path, package: str) -> None:
    file, *loaded = run_installed(installed, f"import {package} as m; print(m.__file__, *sys.modules)")
    assert Path(file).is_relative_to(installed)
    extras = {
        *("hydra", "matplotlib", "omegaconf", "pandas", "rich", "scipy", "sklearn", "timm", "torchvision"),
        *("wandb", "yaml"),
    }
    packages = {"salr.records", "salr.training", "salr.reporting", "models", "data", "experiments"}
    assert not (extras | packages) & set(loaded)


def test_salr_loads_torch_only_when_an_optimizer_is_asked_for(installed: Path) -> None:
    code = "import salr; assert 'torch' not in sys.modules; assert 'SALR' in dir(salr); "
    code += "assert salr.optim.SALR is salr.SALR and salr.sharpness.hessian_trace; "
    code += "from salr import SALR, SAM, LocalEntropy, SmoothOut; "
    code += "methods = (SALR, SAM, LocalEntropy, SmoothOut); "
    code += "assert all(method.__module__.startswith('salr.optim.') for method in methods); "
    code += "assert not hasattr(salr, 'nothing'); print(*[n for n in salr.__all__ if not hasattr(salr, n)])"
    assert run_installed(installed, code) == []


@pytest.mark.parametrize("package", ["salr", "salr.checks", "salr.costs", "salr.records", "salr.reporting"])
def test_a_package_does_without_torch(package: str) -> None:
    script = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_the_configuration_does_without_torch_and_the_rest_of_the_experiments() -> None:
    script = "import sys, experiments.schema; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "torch" not in loaded
    ours = {name for name in loaded if within(name, "experiments")} - {"experiments"}
    assert ours
    assert all(within(name, "experiments.schema") for name in ours)


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, "experiments.schema")])
def test_the_configuration_imports_only_itself_and_the_lowest_layer(name: str) -> None:
    ours = {target for target in imports(name) if target.split(".")[0] in TOP_LEVEL}
    allowed = ["experiments.schema", *LAYERS[0]]
    if name == "experiments.schema.model":
        allowed.append("models.timm_network")  # inside one function: only timm knows what its networks take
    assert not [target for target in ours if not any(within(target, package) for package in allowed)]


def test_the_table_of_layers_only_looks_down() -> None:
    heights = {package: height for height, layer in enumerate(LAYERS) for package in layer}
    for package, allowed in MAY_IMPORT.items():
        ours = {target for target in allowed if target.split(".")[0] in TOP_LEVEL}
        assert all(heights[target] < heights[package] for target in ours), package


def test_contributing_has_the_table_of_layers() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    written: dict[int, set[str]] = {}
    for height, cell in re.findall(r"^\| (\d) \| (.+?) \|", text, re.MULTILINE):
        names = re.findall(r"`([\w/.]+)`", cell)
        written.setdefault(int(height), set()).update(
            name.removesuffix(".py").rstrip("/").replace("/", ".") for name in names
        )
    expected = [set(layer) for layer in LAYERS] + [set(APPLICATION), set(ENTRY_POINTS)]
    assert written == dict(enumerate(expected))


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] not in ENTRY_POINTS])
def test_a_module_imports_only_from_layers_below(name: str) -> None:
    package = (
        "salr" if name == "salr" else next((p for p in (*MAY_IMPORT, *APPLICATION) if within(name, p)), "")
    )
    assert package, f"{name} is in no package of the table: {[*MAY_IMPORT, *APPLICATION, *ENTRY_POINTS]}"
    targets = {target for target in imports(name) if from_outside(target) and not within(target, package)}
    if package in APPLICATION:
        wrong = {target for target in targets if target.split(".")[0] in ENTRY_POINTS}
    else:
        allowed = MAY_IMPORT.get(package, set())  # salr itself imports nothing
        wrong = {target for target in targets if not any(within(target, other) for other in allowed)}
    assert not wrong, f"{name} imports {sorted(wrong)}"


def test_nothing_imports_the_entry_point() -> None:
    for name in {**MODULES, **OTHERS}:
        assert "train" not in set(imports(name)), name


@pytest.mark.parametrize("name", [*MODULES, *OTHERS])
def test_imports_are_absolute_and_need_no_change_of_the_path(name: str) -> None:
    """The installation puts the root of the checkout on the path."""
    list(imports(name))  # refuses relative imports
    for node in ast.walk(ast.parse({**MODULES, **OTHERS}[name].read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Attribute) or ast.unparse(node) != "sys.path", f"line {node.lineno}"


def test_configs_holds_only_yaml() -> None:
    files = subprocess.run(
        ["git", "ls-files", "configs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {Path(file).suffix for file in files.stdout.splitlines()} == {".yaml"}


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_init_only_hands_names_on(name: str) -> None:
    """The exception is ``salr``, whose module ``__getattr__`` loads torch only when it is needed."""
    functions = {"__getattr__", "__dir__"} if name == "salr" else set()
    for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        dunder = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__version__")
        lazy = isinstance(node, ast.FunctionDef) and node.name in functions
        handed = isinstance(node, ast.Import | ast.ImportFrom)
        assert docstring or dunder or lazy or handed, f"line {node.lineno}"


def test_no_imports_in_a_circle() -> None:
    graph = {
        name: {target for target in imports(name) if target in MODULES and target != name} for name in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_every_imported_package_is_declared() -> None:
    """The project names each package that it imports, and relies on none that another package brings."""
    declared = {distribution(line) for line in REQUIREMENTS}
    packages = packages_distributions()
    for name in MODULES:
        for package in {target.split(".")[0] for target in imports(name) if from_outside(target)} - TOP_LEVEL:
            owners = {distribution(owner) for owner in packages.get(package, [package])}
            assert owners & declared, f"{name} imports {package}, of {sorted(owners)}: not in pyproject.toml"


def test_every_declared_package_has_a_tested_version() -> None:
    pins = re.findall(
        r"^([\w-]+)==[\d.]+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {distribution(line) for line in REQUIREMENTS} <= {distribution(pin) for pin in pins}
