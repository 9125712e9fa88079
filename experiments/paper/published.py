"""What the paper prints in Tables 1 to 9, typed in by hand, and what a reader has to know to compare."""

import csv
from functools import cache
from pathlib import Path

from salr.reporting import Published

PAPER = "SALR: Sharpness-Aware Learning Rates for Improved Generalization (under review at ICLR 2021)"

PAPER_ADDRESS = "https://arxiv.org/abs/2011.05348"

FILE = Path(__file__).parent / "published_tables.csv"

TABLES = range(1, 10)

CAPTIONS = {
    1: "Classification accuracy on MNIST (%)",
    2: "Classification accuracy on CIFAR-10 (%)",
    3: "Classification accuracy on CIFAR-10 over Adam (%)",
    4: "Sharpness of the final solutions on CIFAR-10 (×10⁻³)",
    5: "Perplexity on Penn Treebank, nats per character on War and Peace",
    6: "Perplexity on Penn Treebank",
    7: "Nats per character on War and Peace",
    8: "Classification accuracy of ResNet-56 (%)",
    9: "Classification accuracy of ResNet-44 against SmoothOut (%)",
}

NATS = (
    "War and Peace: the paper's “perplexity” is the mean cross-entropy in nats per character, never "
    "exponentiated. The same quantity is printed here. The “SGD” column is Adam."
)

REMARKS = {
    2: (
        "The published SGD values of RegNetX (94.24) and ResNet101 (95.11) equal numbers in a popular public "
        "CIFAR repository; there, the latter is a PreActResNet18's.",
    ),
    3: ("SWA and Entropy-SGD mean their forms over Adam.",),
    4: (
        "The paper does not say which measure it prints; Definition 1 on the training set is compared here.",
    ),
    5: (NATS, "The published Entropy-SGD values lie far below that method's own paper (77.66 and 1.217)."),
    6: ("The published Entropy-SGD value lies far below that method's own paper (77.66).",),
    7: (NATS, "The published Entropy-SGD value lies far below that method's own paper (1.217)."),
    9: ("AdamSmoothOut is taken to be AdaSmoothOut, the adaptive variant; its radius is published nowhere.",),
}
SPREAD = "Published standard deviations of 0.00 to 0.01 points over 30 seeds are at most one test image."
FEW_SEEDS = "The paper averages 5 runs here, and 30 elsewhere."

TEST_IMAGES = {"mnist": 10_000, "cifar10": 10_000, "cifar100": 10_000}
"""Sizes of the test sets, for the sampling error of accuracies."""

_FEW = {9: 5}
"""The tables that average fewer runs than 30."""

_OVER_ADAM = {"sgd": "adam", "swa": "swa_adam", "entropy_sgd": "entropy_adam", "sgd_salr": "adam_salr"}


@cache
def published() -> tuple[Published, ...]:
    """Return all 130 cells, in the file's order."""
    with FILE.open(newline="", encoding="utf-8") as stream:
        return tuple(map(_cell, csv.DictReader(stream)))


def table_rows(table: int) -> tuple[Published, ...]:
    """Return the cells of one table."""
    return tuple(cell for cell in published() if cell.table == table)


def optimizer_of(cell: Published) -> str:
    """Return the configuration that stands for a printed method.

    War and Peace was trained with Adam, and AdamSmoothOut is read as AdaSmoothOut.
    """
    if cell.dataset == "war_and_peace":
        return _OVER_ADAM[cell.method]
    return "ada_smoothout" if cell.method == "adam_smoothout" else cell.method


def remarks(table: int) -> tuple[str, ...]:
    """Return a table's footnotes."""
    rows = table_rows(table)
    narrow = any(row.metric == "accuracy_percent" and row.std <= 0.01 and row.seeds == 30 for row in rows)
    few = any(row.seeds < 30 for row in rows)
    return (*REMARKS.get(table, ()), *([SPREAD] if narrow else []), *([FEW_SEEDS] if few else []))


def _cell(row: dict[str, str]) -> Published:
    table, dataset = int(row["table"]), row["dataset"]
    metric = "nats" if dataset == "war_and_peace" else row["metric"]  # see NATS
    numbers = float(row["mean"]), float(row["std"]), _FEW.get(table, 30)
    return Published(table, dataset, row["network"], row["method"], metric, *numbers)
