"""Learning-rate schedules. To add one: a dataclass with a `kind`, its parameters and `rate`, named in `ScheduleConfig`."""

import math
from typing import Literal

from text2image.config import frozen, parameter


@frozen
class DropSchedule:
    """One drop. The paper: from 0.001 to 0.0001 after epoch 110 of 150 (MNIST), 11 of 18 (COCO)."""

    kind: Literal["drop"]
    after: int = parameter(ge=0, le=10**6)      # epochs; 0: never
    final_learning_rate: float = parameter(ge=1e-15, le=100)

    def rate(self, learning_rate: float, done: float, epochs: int) -> float:
        """The rate after `done` of `epochs` epochs, fractions included."""
        return self.final_learning_rate if self.after and done >= self.after else learning_rate


@frozen
class CosineSchedule:
    """Half a cosine from the first rate down to the final one."""

    kind: Literal["cosine"]
    final_learning_rate: float = parameter(ge=1e-15, le=100)

    def rate(self, learning_rate: float, done: float, epochs: int) -> float:
        """The rate after `done` of `epochs` epochs, fractions included."""
        share = 0.5 * (1 + math.cos(math.pi * done / epochs))
        return self.final_learning_rate + share * (learning_rate - self.final_learning_rate)


ScheduleConfig = DropSchedule | CosineSchedule
