"""The learning rates of an epoch and, with SALR, the sharpness and the factors behind them."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from salr.optim import SALR


class Trace:
    """Collect the values of every iteration.

    They stay on the device until the epoch ends, so that no iteration waits for the device.

    Args:
        optimizer: the optimizer that is traced, before the first iteration of the epoch.
        detailed: also keep the running median of every iteration, for :meth:`iterations`.
    """

    def __init__(self, optimizer: Optimizer, detailed: bool = False) -> None:
        self._salr = optimizer if isinstance(optimizer, SALR) else None
        self._detailed = detailed
        self._rates: list[float] = []
        self._values: list[Tensor] = []
        self._held = None if self._salr is None else self._salr.last_sharpness.clone()

    def add(self, rate: float) -> None:
        """Keep the values of the iteration that has just ended, and its base rate."""
        self._rates.append(rate)
        if self._salr is not None:
            values = [self._salr.last_sharpness, self._salr.lr_factor]
            if self._detailed:
                values.append(self._salr.median_sharpness)
            self._values.append(torch.stack(values))

    def metrics(self) -> dict[str, float]:
        """Return the columns of the epoch's row of metrics.

        ``lr`` is the base rate of the last iteration, after the schedule. ``lr_effective`` is ``lr`` times
        ``lr_factor`` with SALR, and equals ``lr`` without it. Only SALR has the others:

        - ``lr_factor``, the median over the iterations; ``lr_factor_low`` and ``lr_factor_high``, its 5 % and
          95 % quantiles, linearly interpolated; ``lr_factor_mean``;
        - ``sharpness``, the median of the epoch's finite measurements, or the newest value if there is none;
        - ``median_sharpness``, the running median of all valid measurements at the end of the epoch.
        """
        rate = float(self._rates[-1])
        if self._salr is None:
            return {"lr": rate, "lr_effective": rate}
        sharpness, factors = self._columns()[:2]
        quantiles = torch.tensor([0.05, 0.5, 0.95], dtype=torch.double, device="cpu")
        low, factor, high = factors.quantile(quantiles).tolist()
        return {
            "lr": rate,
            "lr_effective": rate * factor,
            "lr_factor": factor,
            "lr_factor_low": low,
            "lr_factor_high": high,
            "lr_factor_mean": float(factors.mean()),
            "sharpness": self._median_of_measured(sharpness),
            "median_sharpness": float(self._salr.median_sharpness),
        }

    def iterations(self) -> dict[str, list[float]] | None:
        """Return the values of every iteration if they are detailed and SALR's; ``lr`` is the base rate."""
        if self._salr is None or not self._detailed:
            return None
        sharpness, factors, medians = (column.tolist() for column in self._columns())
        return {
            "sharpness": sharpness,
            "median_sharpness": medians,
            "lr_factor": factors,
            "lr": self._rates,
            "lr_effective": [rate * factor for rate, factor in zip(self._rates, factors, strict=True)],
        }

    def _columns(self) -> Tensor:
        return torch.stack(self._values).cpu().double().T

    def _median_of_measured(self, sharpness: Tensor) -> float:
        """Return the median of the measurements. Between two of them SALR repeats the older one."""
        assert self._held is not None
        before = torch.cat([self._held.cpu().double().view(1), sharpness[:-1]])
        measured = sharpness[(sharpness != before) & sharpness.isfinite()]
        return float(measured.quantile(0.5)) if len(measured) else float(sharpness[-1])
