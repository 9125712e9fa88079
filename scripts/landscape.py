#!/usr/bin/env python3
"""Draw the training loss around a finished run's weights.

The directions are random and normalised by filter (Li et al. 2018).

python scripts/landscape.py results/runs/mnist/lenet/sgd-.../seed-0
python scripts/landscape.py --line 101 --plane 0 --reach 0.5 --examples 2000 RUN_FOLDER

The loss is evaluated in evaluation mode and single precision. The run's folder gets landscape_1d.png and
landscape_2d.png, and every point as soon as it is found (landscape_1d.json, landscape_2d.json). If the
command is interrupted, run it again to resume with the next point. A different grid replaces the points.

Exit code: 0 drawn, 1 failed, 2 not a finished run, 4 another process holds the run, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.cli import ExitCode, Parser, count, start
from experiments.finished import device, finished_run, open_finished
from salr.records import Run, atomic
from salr.reporting.figures import COLOURS
from salr.sharpness import filter_normalised_direction, loss_surface

SEED = 0
"""Draws the directions. The line follows the first direction of the plane."""


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "--line",
        type=_points,
        default=51,
        metavar="N",
        help="points of the line; 0: none (default %(default)s)",
    )
    parser.add_argument(
        "--plane",
        type=_points,
        default=25,
        metavar="N",
        help="the plane is N by N; 0: none (default %(default)s)",
    )
    parser.add_argument(
        "--reach", type=_length, default=1.0, help="how far to go, in filter norms (default %(default)s)"
    )
    parser.add_argument(
        "--examples", type=count, metavar="N", help="the first N training images or tokens; default all"
    )
    parser.add_argument(
        "--device", type=device, default="auto", help="auto, cpu, cuda, cuda:N; default %(default)s"
    )
    chosen = parser.parse_args(arguments)
    if not chosen.line and not chosen.plane:
        parser.error("--line 0 --plane 0: nothing to draw; expected points of one of them")
    run = finished_run(chosen.folder)
    with run.claim():
        for dimensions, points in ((1, chosen.line), (2, chosen.plane)):
            if points:
                settings = {
                    "reach": chosen.reach,
                    "points": points,
                    "examples": chosen.examples,
                    "seed": SEED,
                }
                picture = run.folder / f"landscape_{dimensions}d.png"
                draw(
                    np.array(grid(run, dimensions, settings, chosen.device)),
                    chosen.reach,
                    picture,
                    _title(run),
                )
                print(picture, flush=True)
    return ExitCode.FINISHED


def grid(run: Run, dimensions: int, settings: dict[str, Any], device: str) -> list[Any]:
    """Return the losses, nested as deep as there are dimensions. The run's folder keeps each one."""
    name, shape = f"landscape_{dimensions}d.json", (settings["points"],) * dimensions
    record = run.read_json(name)
    if record is None or record["settings"] != settings:
        record = {"settings": settings, "losses": np.full(shape, None).tolist()}
    losses = np.array(record["losses"], dtype=object)
    done = {index for index, loss in np.ndenumerate(losses) if loss is not None}
    print(
        f"{run.folder.name}, {dimensions}-D: {losses.size} points, {len(done)} of them found before",
        file=sys.stderr,
        flush=True,
    )
    if len(done) < losses.size:
        finished = open_finished(run, device)
        closure = finished.loss("train", settings["examples"], lambda number, batch: None)
        generator = torch.Generator().manual_seed(settings["seed"])
        directions = [filter_normalised_direction(finished.parameters, generator) for _ in shape]
        with _bar(losses.size, len(done)) as bar:
            for index, loss in loss_surface(
                closure, finished.parameters, directions, [axis(settings)] * dimensions, skip=done
            ):
                losses[index] = loss
                run.write_json(name, {"settings": settings, "losses": losses.tolist()})
                bar.advance(bar.task_ids[0])
    return losses.tolist()


def axis(settings: dict[str, Any]) -> list[float]:
    """Return the coordinates of one axis: symmetric about 0, which is exact."""
    half = settings["points"] // 2
    return [settings["reach"] * step / half for step in range(-half, half + 1)]


def draw(losses: np.ndarray, reach: float, path: Path, title: str) -> None:
    """Draw a line or filled contours of losses as PNG. Losses that are not finite are left out.

    The scale of the contours is logarithmic: a loss of 0 is drawn as the least positive one.

    Raises:
        ValueError: no loss of a plane is positive and finite.
        RecordError: the picture cannot be written.
    """
    if losses.ndim == 2 and not (np.isfinite(losses) & (losses > 0)).any():
        raise ValueError(
            f"{path.name}: expected a finite loss > 0 somewhere in the plane, found none; try another --reach"
        )
    places = np.linspace(-reach, reach, len(losses))
    losses = np.where(np.isfinite(losses), losses, np.nan)
    figure, axes = plt.subplots(figsize=(6.4, 4.4) if losses.ndim == 1 else (6.4, 5.2), layout="compressed")
    if losses.ndim == 1:
        axes.plot(places, losses, color=COLOURS[0])
        axes.axvline(0, color="grey", linestyle=":", label="the run's weights")
        axes.set(ylabel="training loss")
        axes.grid(alpha=0.25)
    else:
        low, high = losses[losses > 0].min(), np.nanmax(losses)
        losses = np.maximum(losses, low)
        levels = np.geomspace(low, max(high, 1.001 * low), 25)
        # The first direction runs to the right.
        filled = axes.contourf(places, places, losses.T, levels, cmap="cividis", norm=LogNorm())
        bar = figure.colorbar(filled, label="training loss", ticks=levels[::4])
        bar.ax.set_yticklabels([f"{level:.2g}" for level in levels[::4]])
        axes.plot(0, 0, "*", color="white", markeredgecolor="black", markersize=13, label="the run's weights")
        axes.set(ylabel="second direction (filter norms)", aspect="equal")
    axes.set(xlabel="first direction (filter norms)", title=title)
    axes.legend(frameon=losses.ndim == 2)
    options: dict[str, Any] = {"format": "png", "dpi": 150, "metadata": {"Software": None}}
    atomic.replace(path, lambda stream: figure.savefig(stream, **options))
    plt.close(figure)


@contextmanager
def _bar(points: int, done: int) -> Iterator[Progress]:
    """Show the progress, only on a terminal."""
    console = Console(file=sys.stderr)
    columns = (TextColumn("  points"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        bar.add_task("", total=points, completed=done)
        yield bar


def _title(run: Run) -> str:
    return f"{run.dataset} {run.model} {run.optimizer}, seed {run.seed}"


def _points(text: str) -> int:
    if not text.isdecimal() or (int(text) and (int(text) < 3 or int(text) % 2 == 0)):
        raise argparse.ArgumentTypeError(
            f"{text}: expected 0 or an odd number >= 3, so that the weights themselves are a point"
        )
    return int(text)


def _length(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a finite number > 0")
    return value


if __name__ == "__main__":
    start(main)
