"""SALR as in the authors' released code, which differs from the paper."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from salr.closures import Evaluation
from salr.closures.own_gradients import NoGradient
from salr.optim.kept import KeptStep
from salr.optim.running_median import RunningMedian
from salr.optim.salr import SALR
from salr.sharpness import Measure, ReleasedMeasure


class ReleasedSALR(SALR):
    """Scale the learning rate as the code does that the paper's authors released later.

    It differs from :class:`SALR` in two points. The measurement follows the update, on the same batch, and
    serves the next iterations. So it cannot share the training gradient: a measured iteration takes 1 + n1 +
    n2 gradients and a loss. The factor is at most ``max_factor``, and 1 if Ŝ lies between the 49th and the
    51st percentile of all measurements. The default measure is also the released code's.

    In a loop that calls ``backward`` itself, call ``measure(closure)`` after ``step()``.

    Args:
        base: as for SALR.
        measure: by default the released code's, ``ReleasedMeasure()``.
        interval: in iterations; the first measurement follows the first update.
        shared_noise: as for SALR.
        max_factor: the largest factor.
        modules: as for SALR.

    Raises:
        ValueError: as SALR does.
        TypeError: as SALR does.

    Example:
        >>> import torch
        >>> from salr.optim import ReleasedSALR
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = ReleasedSALR(torch.optim.SGD([x], lr=0.1))
        >>> for _ in range(4):
        ...     loss = optimizer.step(lambda: x.square().sum())
        >>> bool(0 < optimizer.lr_factor <= 5)
        True
    """

    default_measure = ReleasedMeasure
    capturable = False  # the next iteration draws once more what a measurement has drawn

    def __init__(
        self,
        base: Optimizer,
        measure: Measure | None = None,
        interval: int = 2,
        shared_noise: bool = True,
        max_factor: float = 5.0,
        modules: nn.Module | Iterable[nn.Module] = (),
    ) -> None:
        super().__init__(base, measure, interval, shared_noise, max_factor, modules)

    @property
    def measurement_due(self) -> bool:
        return (
            not self._measured
            and self._iterations % self.interval == 1 % self.interval
            and self._iterations > 0
        )

    def _step(self, evaluation: Evaluation) -> Tensor:
        kept = KeptStep(self.base) if self._iterations % self.interval == 0 else None
        with self._scaled_rates():
            loss = self._step_base(evaluation)
        self._count()
        if self.measurement_due:
            try:
                # The update has moved the parameters, so the training gradient is of no use.
                self._take(
                    self.sharpness_measure(
                        evaluation.closure, evaluation.parameters, self.shared_noise, self._side
                    )
                )
            except NoGradient:
                pass  # the base has met it, too
            except BaseException:
                if kept is not None:
                    kept.restore()
                raise
        return loss

    def _factor_of(self, sharpness: Tensor, history: RunningMedian) -> Tensor:
        usual = (history.quantile(0.49) <= sharpness) & (sharpness <= history.quantile(0.51))
        return torch.where(usual, 1.0, super()._factor_of(sharpness, history))
