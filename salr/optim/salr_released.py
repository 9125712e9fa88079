"""SALR as the authors' released code means it, which is not as the paper writes it."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from salr.checks import check_released
from salr.closures import Evaluation
from salr.closures.no_trace import no_trace
from salr.optim.running_median import RunningMedian
from salr.optim.salr import SALR


class ReleasedSALR(SALR):
    """What differs from :class:`SALR` in the code that the paper's authors released later, without its accidents.

    The measurement follows the update, on the same batch, and serves the next iterations. n2 ascent steps start at θ and n1
    descent steps *from the ascended point*; a step moves each element by its gradient times ``step_scale``, clipped to
    ±``step_limit``, with no normalisation; Ŝ is the difference of the losses at the two ends. The factor is at most ``cap``, and
    1 where Ŝ lies between the 49th and the 51st percentile of what has been measured.

    Accidents that are left out: there the model stays in evaluation mode after an epoch's first measurement, and the
    parameters stay where the measurement has led them. A measured iteration takes 1 + n1 + n2 gradients and a loss.

    Raises:
        ValueError: a size that is not positive, and as SALR does.
    """

    def __init__(
        self,
        base: Optimizer,
        step_scale: float = 1e-3,
        step_limit: float = 5e-4,
        descent_steps: int = 5,
        ascent_steps: int = 5,
        interval: int = 2,
        cap: float = 5.0,
    ) -> None:
        check_released(step_scale, step_limit, descent_steps, ascent_steps, cap)
        super().__init__(base, step_scale, descent_steps, ascent_steps, interval)
        self.step_limit, self.cap = step_limit, cap

    def _step(self, evaluation: Evaluation) -> Tensor:
        with self._scaled_rates():
            loss = self._step_base(evaluation)
        if self._iterations % self.interval == 0:
            self._measure(evaluation)
        self._iterations += 1
        return loss

    def _sharpness_of(self, evaluation: Evaluation) -> Tensor:
        # The update has moved the parameters, so nothing of the training gradient is of use.
        probe = Evaluation(evaluation.closure, evaluation.parameters)
        scales = [self.gamma] * self.ascent_steps + [-self.gamma] * self.descent_steps
        with no_trace(probe.parameters), probe.without_trace(self.shared_noise) as loss, torch.no_grad():
            for step, scale in enumerate(scales):
                if step > 0:
                    loss = probe()
                if step == self.ascent_steps:
                    ascended = loss
                for parameter, gradient in zip(*probe.gradients(), strict=True):
                    parameter.add_((gradient * scale).clamp_(-self.step_limit, self.step_limit))
            dtype = torch.promote_types(loss.dtype, torch.float32)
            return ascended.to(dtype) - probe.loss().to(dtype)

    def _factor_of(self, sharpness: Tensor, history: RunningMedian) -> Tensor:
        usual = (history.quantile(0.49) <= sharpness) & (sharpness <= history.quantile(0.51))
        return torch.where(usual, 1.0, super()._factor_of(sharpness, history).clamp(max=self.cap))
