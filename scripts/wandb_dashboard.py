#!/usr/bin/env python3
"""Builds a table's workspace in Weights & Biases as code: its runs by their tag, grouped by cell, mean ± standard deviation.

python scripts/wandb_dashboard.py 1 --entity me            needs `wandb login` and the extra dashboard
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs.tables import TABLES
from train import BAD_INPUT, FINISHED

TEXT_TABLES = (5, 6, 7)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=int, choices=TABLES)
    parser.add_argument("--entity", required=True, help="the user or team at W&B")
    parser.add_argument("--project", default="salr")
    chosen = parser.parse_args(arguments)
    try:
        import wandb
        import wandb_workspaces  # noqa: F401
    except ImportError:
        return _refuse(
            "wandb-workspaces is not installed; expected: .venv/bin/python -m pip install -c constraints.txt -e '.[dashboard]'"
        )
    if not wandb.login(prompt=False):
        return _refuse("not logged in to W&B; expected `wandb login` before, or WANDB_API_KEY")
    print(workspace(chosen.table, chosen.entity, chosen.project).save().url)
    return FINISHED


def workspace(number: int, entity: str, project: str) -> Any:
    """The view of a table's runs, a wandb_workspaces.workspaces.Workspace; nothing is sent."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import BarPlot, LinePlot

    metric = "test_perplexity" if number in TEXT_TABLES else "test_accuracy"
    spread: dict[str, Any] = {"aggregate": True, "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    lines = [
        LinePlot(title=f"{name} over {x}", x=x, y=[name], **spread)
        for name in (metric, "test_loss", "train_loss")
        for x in ("gradient_calls", "epoch")
    ]
    bars = BarPlot(title=f"{metric} at the end", metrics=[metric], **spread)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Table {number}",
        sections=[ws.Section(name="Mean and standard deviation over seeds", panels=[bars, *lines], is_open=True)],
        runset_settings=ws.RunsetSettings(filters=ws.And(ws.Tags().isin([f"table{number}"])), groupby=[ws.Metric("Group")]),
    )


def _refuse(line: str) -> int:
    print(f"wandb_dashboard.py: {line}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
