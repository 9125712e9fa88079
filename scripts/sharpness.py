#!/usr/bin/env python3
"""Measure the sharpness of finished runs' final weights, and record it in their sharpness.json.

python scripts/sharpness.py results/runs/mnist/lenet/*/seed-*     Definition 1 and Keskar's φ, on all the data
python scripts/sharpness.py --examples 2000 --hessian-top RUN     on a part, with the Hessian's eigenvalue

All measures are taken in evaluation mode and single precision: Definition 1 on the training set (γ 0.002,
n1 = n2 = 5) and Keskar's φ on the test set (ε 5e-4, 10 iterations of L-BFGS-B, in percent). What a record
already has is not measured again, and each value is recorded at once. Exit code: 0 all is measured, 1 a
measurement failed, 2 not a finished run, 4 another process holds a run, 130 interrupted.
"""

from functools import partial
from pathlib import Path

from experiments.cli import Parser, attempt, count, start, worst
from experiments.finished import device, finished_run
from experiments.sharpness import MEASURES, measure_and_print


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "--keskar-train", action="store_true", help="also Keskar's φ on the training set, not the test set"
    )
    parser.add_argument("--sam", action="store_true", help="also SAM's sharpness, ρ = 0.05")
    parser.add_argument("--ball", action="store_true", help="also equation 2, ε = 0.01 (about 130 gradients)")
    parser.add_argument("--hessian-top", action="store_true", help="also the Hessian's largest eigenvalue")
    parser.add_argument(
        "--hessian-trace", action="store_true", help="also the Hessian's trace (100 random vectors)"
    )
    parser.add_argument("--train-loss", action="store_true", help="also the loss on the training set")
    parser.add_argument(
        "--examples", type=count, metavar="N", help="the first N images or tokens of a split; default all"
    )
    parser.add_argument(
        "--device", type=device, default="auto", help="auto, cpu, cuda, cuda:N; default %(default)s"
    )
    chosen = parser.parse_args(arguments)
    names = [name for name in MEASURES if getattr(chosen, name, True)]

    def measure(folder: Path) -> None:
        measure_and_print(finished_run(folder), names, chosen.examples, chosen.device)

    return worst([attempt(partial(measure, folder)) for folder in chosen.folders])


if __name__ == "__main__":
    start(main)
