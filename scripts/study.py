#!/usr/bin/env python3
"""Train the study, which compares each method at its own best rate, and make its tables and its page.

python scripts/study.py --plan                          only say what it would cost
python scripts/study.py --override trainer.workers=2    train what is missing; stop and resume at any time
python scripts/study.py --report                        train nothing: tables, pictures and the page
python scripts/study.py --preset smoke                  everything end to end in minutes, on embedded data

configs/experiment/study.yaml names all cells. Phase 1 trains every method at every rate on nine tenths of the
training set; the last tenth chooses each rate. Phase 2 trains fresh seeds at these rates. Exit code: 0 all
ended, 1 a run failed, 2 wrong input, 3 a run of phase 2 diverged, 4 another process trains a run,
130 interrupted.
"""

from pathlib import Path

from experiments.cli import ExitCode, Parser, start
from experiments.study.cells import PRESETS
from experiments.study.training import StudyRequest, train_study
from experiments.sweep import add_arguments


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument(
        "--report", action="store_true", help="make tables, pictures and the page; train nothing"
    )
    parser.add_argument(
        "--skip-sharpness",
        action="store_true",
        help="do not measure the final weights of the full runs, which takes minutes per run",
    )
    add_arguments(parser)
    chosen = vars(parser.parse_args(arguments))
    report, request = chosen.pop("report"), StudyRequest(**chosen)
    if not report:
        return train_study(request)
    if request.plan or request.skip_sharpness or request.launcher != "local":
        parser.error("--report trains and measures nothing; expected only --preset and --override with it")
    request.check_launching()
    from experiments.study.report import make_report

    study = request.study()
    make_report(study, Path(study.search_cells()[0].config.results))
    return ExitCode.FINISHED


if __name__ == "__main__":
    start(main)
