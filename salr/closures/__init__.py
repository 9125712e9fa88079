"""The engine that evaluates a user's closure many times and leaves no trace."""

from salr.closures.clipped import Clipped
from salr.closures.evaluation import Closure, Evaluation
from salr.closures.neighbourhood import Neighbourhood
from salr.closures.side_state import SideState

__all__ = ["Clipped", "Closure", "Evaluation", "Neighbourhood", "SideState"]
