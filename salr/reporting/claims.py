"""What a paper claims, as the verdicts are handed it."""

from collections import Counter
from dataclasses import dataclass

from salr.reporting.published import Key


@dataclass(frozen=True)
class Pair:
    """Two printed cells of one data set, network and metric; ``method`` is claimed to be the better one."""

    dataset: str
    network: str
    metric: str
    method: str
    against: str

    @property
    def first(self) -> Key:
        return self.dataset, self.network, self.method, self.metric

    @property
    def second(self) -> Key:
        return self.dataset, self.network, self.against, self.metric


@dataclass(frozen=True)
class Claim:
    """A finding: each pair is a comparison that can support or contradict it.

    Attributes:
        letter: a short name.
        text: the claim in one sentence.
        source: where the paper makes it, with its words.
        pairs: all comparisons of the whole paper, measured or not.
        note: what a reader has to know before judging.
    """

    letter: str
    text: str
    source: str
    pairs: tuple[Pair, ...]
    note: str = ""

    @property
    def main_metric(self) -> str:
        """The most frequent metric of the pairs; values of different metrics cannot be averaged."""
        return Counter(pair.metric for pair in self.pairs).most_common(1)[0][0]


@dataclass(frozen=True)
class Fact:
    """What follows from the configurations and is counted, not found.

    Attributes:
        quantity: a number in the summaries: ``epochs`` or ``gradient_calls``.
        expected: what the paper says of the ratio of the first to the second method of each pair.
    """

    text: str
    source: str
    quantity: str
    expected: float
    pairs: tuple[Pair, ...]
    note: str = ""
