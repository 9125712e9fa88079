"""What methods cost in evaluations of the loss, and how many batches an epoch has.

Only the standard library is imported.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasurementCost:
    """What one measurement of the sharpness costs beyond the training gradient.

    Attributes:
        gradients: further gradients of the loss.
        losses: evaluations of the loss without a gradient.
        shares_gradient: whether the measurement uses the gradient at the present parameters. It costs nothing
            if the training step uses the same gradient. It is one more if the step takes its gradient
            elsewhere (SmoothOut), or if the measure is called by itself.

    Example:
        >>> from salr.sharpness import AscentDescent
        >>> AscentDescent(descent_steps=5, ascent_steps=5).cost
        MeasurementCost(gradients=8, losses=2, shares_gradient=True)
    """

    gradients: int
    losses: int
    shares_gradient: bool

    @property
    def needs_evaluation(self) -> bool:
        """Whether a measurement evaluates the closure beyond the training gradient."""
        return self.gradients + self.losses > 0 or not self.shares_gradient


GRADIENT_NORM = MeasurementCost(gradients=0, losses=0, shares_gradient=True)
SAM_SHARPNESS = MeasurementCost(gradients=0, losses=1, shares_gradient=True)
DIRECTIONAL_CURVATURE = MeasurementCost(gradients=0, losses=2, shares_gradient=True)
TOP_EIGENVALUE = MeasurementCost(gradients=1, losses=0, shares_gradient=True)


def ascent_descent_cost(descent_steps: int, ascent_steps: int) -> MeasurementCost:
    """Return the cost of Definition 1: both chains start with the training gradient (section 5)."""
    chains = [steps for steps in (descent_steps, ascent_steps) if steps > 0]
    return MeasurementCost(sum(chains) - len(chains), losses=len(chains), shares_gradient=True)


def released_cost(descent_steps: int, ascent_steps: int) -> MeasurementCost:
    """Return the cost of the authors' released measure: one chain, which starts with the gradient at θ."""
    return MeasurementCost(descent_steps + ascent_steps - 1, losses=1, shares_gradient=True)


def gradient_calls(
    training_gradients: float, measurement: MeasurementCost | None, interval: int, at_parameters: bool
) -> float:
    """Return the gradients that an iteration takes on average.

    Args:
        training_gradients: what the wrapped optimizer takes.
        measurement: what SALR's measurement costs; ``None`` without SALR.
        interval: iterations from one measurement to the next.
        at_parameters: whether the wrapped optimizer takes its first gradient where the measurement takes its
            own, so that both can share it. SmoothOut takes it elsewhere, and an update moves the parameters.

    Example:
        >>> from salr.costs import MeasurementCost, gradient_calls
        >>> cost = MeasurementCost(gradients=8, losses=2, shares_gradient=True)
        >>> gradient_calls(1, cost, interval=2, at_parameters=True)
        5.0
    """
    if measurement is None:
        return training_gradients
    own = 0 if at_parameters or not measurement.shares_gradient else 1
    return training_gradients + (measurement.gradients + own) / interval


def image_batches(examples: int, batch_size: int) -> int:
    """Return the batches an epoch of labelled examples; a last, smaller batch is left out."""
    return examples // batch_size


def text_batches(tokens: int, streams: int, sequence_length: int) -> int:
    """Return the batches an epoch of ``streams`` parallel token streams; the last token is only a target."""
    return (tokens // streams - 1) // sequence_length
