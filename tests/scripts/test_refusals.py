"""The scripts' wrong inputs: one line, an exit code that is not zero, nothing trained and nothing left."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.commands import ROOT

# A wrong command line, and words that its one line must have; FILE is a file, NOTHING an empty folder.
WRONG = {
    "table.py": ("required", "tables"),
    "table.py 10": ("table 10", "1 to 9"),
    "table.py one": ("table one", "1 to 9, or all"),
    "table.py ²": ("table ²", "1 to 9, or all"),
    "table.py all 1": ("all: expected without other tables",),
    "table.py 9 --seeds none": ("seeds = none", "seeds=30"),
    "table.py 9 --preset tiny": ("tiny", "smoke"),
    "table.py 9 --launcher sun": ("sun", "slurm"),
    "table.py 9 --networks lenet,alexnet": ("alexnet", "expected"),
    "table.py 9 --networks ,": ("networks ','", "a comma between them"),
    "table.py 9 --override model=lenet": ("model=lenet: a table sets the model of each", "--networks"),
    "table.py 9 --override optimizer=sgd": ("optimizer=sgd: a table sets the optimizer of each",),
    "table.py 9 --turbo": ("--turbo",),
    "table.py 9 --override optimizer.base.lr=0": ("optimizer.base.lr = 0", "> 0"),
    "table.py 9 --override seeds": ("'seeds'", "name=value"),
    "table.py 9 --override hydra.launcher.partition=fast": ("--launcher slurm or ray",),
    "table.py 9 --jobs 4": ("--jobs 4: only for a launcher", "--launcher slurm or ray"),
    "study.py --report --plan": ("--report trains and measures nothing",),
    "study.py --report --jobs 4": ("--jobs 4: only for a launcher",),
    "study.py --override model=lenet": ("model=lenet: the study sets model itself; leave it out",),
    "study.py --jobs 4": ("--jobs 4: only for a launcher", "--launcher slurm or ray"),
    "table.py 9 --preset smoke --seeds 1 --override trainer.device=cuda:99": (
        "cuda:99",
        "expected auto or cpu",
    ),
    "table.py 9 --preset smoke --seeds 1 --override results=FILE": ("cannot write to", "not a folder"),
    "report.py 10": ("table 10", "1 to 9"),
    "report.py one": ("one", "int"),
    "report.py 9 --seeds 0": ("seeds = 0",),
    "report.py 9 --override results=FILE": ("cannot write to", "not a folder"),
    "report.py 9 --override results=/proc/nothing": ("cannot write to /proc/nothing",),
    "report.py 9 --override hydra.searchpath=[file:///]": ("closed",),
    "demo.py one": ("one: expected results=DIR",),
    "demo.py results=one two": ("unrecognized", "two"),
    "demo.py results=": ("results", "folder"),
    "demo.py results=FILE": ("cannot write to", "not a folder"),
    "demo.py --turbo": ("--turbo",),
    "sharpness.py": ("RUN_FOLDER",),
    "sharpness.py FILE": ("no such folder",),
    "sharpness.py NOTHING": ("not a run's folder",),
    "sharpness.py --examples 0 NOTHING": ("0: expected a whole number >= 1",),
    "sharpness.py --device gpu NOTHING": ("gpu: expected auto, cpu, cuda",),
    "landscape.py --device gpu NOTHING": ("gpu: expected auto, cpu, cuda",),
    "landscape.py --line 0 --plane 0 NOTHING": ("nothing to draw", "--line 0"),
    "landscape.py --line ² NOTHING": ("²: expected 0 or an odd number",),
    "landscape.py": ("RUN_FOLDER",),
    "landscape.py NOTHING": ("not a run's folder",),
    "landscape.py --line 2 NOTHING": ("2: expected 0 or an odd number >= 3",),
    "landscape.py --reach nan NOTHING": ("nan: expected a finite number > 0",),
    "figure3.py --output FILE": ("File exists",),
    "escape.py --output FILE": ("File exists",),
    "expansion.py --seed -3": ("-3: expected a whole number >= 0",),
    "rounding.py --seed -3": ("-3: expected a whole number >= 0",),
    "download.py imagenet": ("imagenet", "expected some of digits"),
    "wandb_dashboard.py 10 --entity me": ("10", "choose from"),
}


EACH = """
import runpy, sys
for line in sys.stdin.read().splitlines():
    sys.argv = line.split()
    print("next", file=sys.stderr, flush=True)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert end.code == 2, line
"""


def test_wrong_input_of_a_script_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """All in one process: loading torch takes longer than all else."""
    here, file, nothing = tmp_path / "here", tmp_path / "file", tmp_path / "nothing"
    here.mkdir(), nothing.mkdir(), file.touch()
    lines = [
        f"{ROOT / 'scripts'}/{line}".replace("FILE", str(file)).replace("NOTHING", str(nothing))
        for line in WRONG
    ]
    done = subprocess.run(
        [sys.executable, "-c", EACH],
        cwd=here,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    said = [text.splitlines() for text in done.stderr.split("next\n")[1:]]
    for (line, words), refusal in zip(WRONG.items(), said, strict=True):
        assert len(refusal) == 1, (line, refusal)
        assert refusal[0].startswith(f"{line.split()[0]}: "), line
        assert len(refusal[0]) < 700, line
        for word in words:
            assert word in refusal[0], line
    assert list(here.iterdir()) == list(nothing.iterdir()) == []
