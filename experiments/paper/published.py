"""What the paper prints in Tables 1 to 9, typed in one by one, and what a reader has to know before comparing."""

import csv
from functools import cache
from pathlib import Path

from salr.reporting import Published

FILE = Path(__file__).parent / "published_tables.csv"

TABLES = range(1, 10)

CAPTIONS = {
    1: "Classification accuracy on MNIST (%)",
    2: "Classification accuracy on CIFAR-10 (%)",
    3: "Classification accuracy on CIFAR-10 over Adam (%)",
    4: "Sharpness of the final solutions on CIFAR-10 (×10⁻³)",
    5: "Perplexity on Penn Treebank and War and Peace",
    6: "Perplexity on Penn Treebank",
    7: "Perplexity on War and Peace",
    8: "Classification accuracy of ResNet-56 (%)",
    9: "Classification accuracy of ResNet-44 against SmoothOut (%)",
}

NATS = (
    "War and Peace: the paper's “perplexity” is the mean cross-entropy in nats per character, never exponentiated; "
    "the same quantity is printed here. Its “SGD” column is Adam."
)

REMARKS = {
    2: (
        "Published SGD values of RegNetX (94.24) and ResNet101 (95.11) equal numbers printed in a popular public "
        "CIFAR repository, the latter there for a PreActResNet18.",
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
SPREAD = "Published standard deviations of 0.00 to 0.01 over 30 seeds are below what test-set sampling and seeds usually give."

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
    return (*REMARKS.get(table, ()), SPREAD)


def _cell(row: dict[str, str]) -> Published:
    names = (row["dataset"], row["network"], row["method"], row["metric"])
    return Published(int(row["table"]), *names, float(row["mean"]), float(row["std"]))
