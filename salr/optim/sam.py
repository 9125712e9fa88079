"""Sharpness-aware minimisation (Foret et al. 2021), and its adaptive variant (Kwon et al. 2021)."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from salr.checks import check_positive
from salr.closures import Evaluation
from salr.closures.snapshot import Snapshot
from salr.closures.taken import refuse_sparse
from salr.closures.vectors import add_scaled, copy_into, local, total_norm
from salr.optim.gradients import leave_gradients, minimised
from salr.optim.stand_in import on_the_optimizer
from salr.optim.wrapper import Wrapper


@dataclass
class _Ascended:
    """What the second step puts back."""

    start: list[Tensor]
    after: Snapshot
    watching: ExitStack


class SAM(Wrapper):
    """Let the base step with the gradient at θ + ρ g/‖g‖, where g is the gradient at θ.

    ‖·‖ is the L2 norm over all parameters.

    ``adaptive`` is ASAM: the perturbation is ρ θ² g / ‖|θ| g‖, element by element, so that rescaling a layer
    changes nothing.

    Both gradients of an iteration are of one batch and see the same dropout masks. BatchNorm's running
    statistics are those of the first pass only: the second pass belongs to other weights. If ranks exchange
    gradients (DDP) or parameters are sharded (``fully_shard``), all perturb alike.

    In a loop that calls ``backward`` itself, an iteration has two phases::

        optimizer.zero_grad()
        loss_fn(model(images), targets).backward()
        optimizer.first_step()
        loss_fn(model(images), targets).backward()
        optimizer.second_step()

    There the second pass repeats the noise that has been drawn since ``zero_grad()`` (or the last step), so
    call it right before the first pass.

    Args:
        base: any optimizer of torch.optim.
        rho: ρ, in units of the parameters.
        adaptive: whether to perturb in proportion to the parameters.
        modules: see :class:`Wrapper`.

    Raises:
        ValueError: ρ is not a positive finite number.
        TypeError: the base is itself a wrapper, which would want gradients elsewhere.

    Example:
        >>> import torch
        >>> from salr.optim import SAM
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = SAM(torch.optim.SGD([x], lr=0.1), rho=0.5)
        >>> float(optimizer.step(lambda: x.square().sum()))
        25.0
        >>> [round(value, 4) for value in x.tolist()]  # 0.1 times the gradient at 1.1 x
        [2.34, 3.12]
    """

    capturable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        adaptive: bool = False,
        modules: nn.Module | Iterable[nn.Module] = (),
    ) -> None:
        super().__init__(base, modules)
        check_positive("rho", rho)
        self.rho, self.adaptive = rho, adaptive
        self._ascended: _Ascended | None = None
        self._noise = self._side.noise()

    @on_the_optimizer
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients. The noise drawn from here on is that of a first pass."""
        super().zero_grad(set_to_none)
        if self._ascended is None:
            self._noise = self._side.noise()

    @on_the_optimizer
    @torch.no_grad()
    def first_step(self, zero_grad: bool = True) -> None:
        """Move the parameters along the gradients that are there, for a second pass on the same batch.

        Args:
            zero_grad: clear the gradients, so that the second pass starts anew.

        Raises:
            RuntimeError: no parameter has a gradient.
            ValueError: a gradient is sparse.
        """
        self._abandon()
        parameters = [parameter for parameter in self.parameters if parameter.grad is not None]
        if not parameters:
            raise RuntimeError("SAM.first_step() found no gradient; call loss.backward() before it")
        refuse_sparse(parameters)
        after = self._side.snapshot()
        after.set_gradients_aside(self._side.others())
        start, watching = [local(parameter).clone() for parameter in self.parameters], ExitStack()
        self._ascended = _Ascended(start, after, watching)
        self._ascend(parameters, [parameter.grad for parameter in parameters if parameter.grad is not None])
        if zero_grad:
            super().zero_grad()
        self._noise.restore()
        watching.enter_context(self._side.watching(after))

    @on_the_optimizer
    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Move the parameters back and let the base step with the gradients that are there.

        Args:
            zero_grad: clear the gradients afterwards.

        Raises:
            RuntimeError: ``first_step()`` has not been called.
        """
        if self._ascended is None:
            raise RuntimeError(
                "SAM.second_step() follows first_step() and a second backward(); call these first"
            )
        self._return()
        self.base.step()
        leave_gradients(self.parameters)
        if zero_grad:
            super().zero_grad()
        self._noise = self._side.noise()

    def _return(self, noise: bool = True) -> None:
        """Put back what the first step has moved, and what the second pass has changed but for gradients."""
        ascended, self._ascended = self._ascended, None
        if ascended is not None:
            ascended.watching.close()
            ascended.after.restore(noise)
            copy_into(self.parameters, ascended.start)

    def _abandon(self) -> None:
        """Go back from a first step whose second pass has failed."""
        if self._ascended is not None:
            self._return(noise=False)  # the generators may have been seeded anew
            self._side.complete = False  # perhaps nothing has been watched

    def _step(self, evaluation: Evaluation) -> Tensor:
        self._abandon()
        loss = super()._step(evaluation)
        self._noise = self._side.noise()
        return loss

    def _step_on_gradients(self) -> None:
        raise TypeError(
            "SAM.step() needs a closure, for it evaluates the loss twice: define closure() returning the "
            "loss of the current batch and call optimizer.step(closure), or call first_step() and "
            "second_step(), each after a backward()"
        )

    @torch.no_grad()
    def _gradient(self, evaluation: Evaluation) -> Tensor:
        with evaluation.without_trace() as loss:
            self._ascend(*evaluation.gradients())
            evaluation.training_gradient()
            perturbed = [parameter.grad for parameter in evaluation.parameters]
        for parameter, gradient in zip(evaluation.parameters, perturbed, strict=True):
            parameter.grad = gradient
        return loss

    def _ascend(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        if not parameters:
            return
        gradients = minimised(self.param_groups, parameters, gradients)
        if self.adaptive:
            sizes = torch._foreach_abs(parameters)
            gradients = list(torch._foreach_mul(gradients, sizes))
        norm = total_norm(gradients)
        if self.adaptive:
            gradients = list(torch._foreach_mul(gradients, sizes))
        add_scaled(parameters, gradients, torch.where(norm > 0, self.rho / norm, 0.0))
