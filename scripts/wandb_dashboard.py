#!/usr/bin/env python3
"""Build a table's workspace in Weights & Biases: its runs by tag, grouped by cell, mean ± standard deviation.

python scripts/wandb_dashboard.py 1 --entity me            needs `wandb login` and the extra dashboard
"""

from typing import Any

from experiments.cli import ExitCode, Parser, start
from experiments.paper.published import TABLES
from experiments.paper.tables import PRESETS, tag
from experiments.schema import ConfigError

METRICS = {
    4: ("ascent_descent", "keskar_percent"),
    5: ("test_perplexity", "test_loss"),
    6: ("test_perplexity",),
    7: ("test_loss",),
}
"""What a table is about, if it is not accuracy. Table 4's measures are taken after training: no curves."""

CURVES = ("test_accuracy", "test_perplexity", "test_loss", "train_loss", "lr_factor", "median_sharpness")
"""What runs log in every epoch; the factor and the sharpness are logged by SALR methods."""

TEXTS = (5, 6, 7)


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("table", type=int, choices=TABLES)
    parser.add_argument("--entity", required=True, help="the user or team at W&B")
    parser.add_argument("--project", default="salr")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    chosen = parser.parse_args(arguments)
    try:
        import wandb
        import wandb_workspaces  # noqa: F401
    except ImportError:
        install = ".venv/bin/python -m pip install -c constraints.txt -e '.[dashboard]'"
        raise ConfigError(f"wandb-workspaces is not installed; expected: {install}") from None
    if not wandb.login(prompt=False):
        raise ConfigError("not logged in to W&B; expected `wandb login` before, or WANDB_API_KEY")
    print(workspace(chosen.table, chosen.preset, chosen.entity, chosen.project).save().url)
    return ExitCode.FINISHED


def workspace(number: int, preset: str, entity: str, project: str) -> Any:
    """Return the view of a table's runs, a ``wandb_workspaces.workspaces.Workspace``. Nothing is sent."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import BarPlot, LinePlot

    metrics = METRICS.get(number, ("test_accuracy",))
    spread: dict[str, Any] = {"aggregate": True, "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    lines = [
        LinePlot(title=f"{name} over {x}", x=x, y=[name], **spread)
        for name in CURVES
        if name != ("test_accuracy" if number in TEXTS else "test_perplexity")
        for x in ("gradient_calls", "epoch")
    ]
    bars = [BarPlot(title=f"{metric} at the end", metrics=[metric], **spread) for metric in metrics]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=tag(number, preset).replace("table", "Table ").replace("-", ", "),
        sections=[
            ws.Section(name="Mean and standard deviation over seeds", panels=[*bars, *lines], is_open=True)
        ],
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Tags().isin([tag(number, preset)])), groupby=[ws.Metric("Group")]
        ),
    )


if __name__ == "__main__":
    start(main)
