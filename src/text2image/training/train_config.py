"""The parameters of training: the block `runs.<run>.train` of params.yaml."""

from typing import Literal

from text2image.config import MAX_COUNT, frozen, parameter
from text2image.devices import MAX_THREADS, Device, Precision
from text2image.errors import UserError
from text2image.training.optimizers import OptimizerConfig
from text2image.training.schedules import ScheduleConfig


@frozen
class TrainConfig:
    """How to train. The paper: RMSprop, learning rate 0.001 and after the drop 0.0001, clip at 10, batches of 100."""

    init: Literal["random", "released_weights"]    # weights drawn from the seed, or those that came with the data
    epochs: int = parameter(ge=0, le=10**6)
    epoch_size: int = parameter(ge=0, le=MAX_COUNT)  # captions, or fresh images, an epoch; 0: the whole split
    min_words: int = parameter(ge=1, le=10**4)     # captions of fewer or of more words than these are not trained on
    max_words: int = parameter(ge=1, le=10**4)
    batch_size: int = parameter(ge=1, le=10**6)
    bucket: int = parameter(ge=1, le=10**4)        # caption lengths that share a batch, padded and masked; 1: none do
    optimizer: OptimizerConfig
    learning_rate: float = parameter(ge=1e-15, le=100)
    schedule: ScheduleConfig
    clip: Literal["global", "per_tensor"]          # the norm of all gradients (paper), or of each (released code)
    clip_norm: float = parameter(ge=1e-9, le=1e9)
    dev_size: int = parameter(ge=0, le=MAX_COUNT)  # captions of dev scored after each epoch; 0: all
    checkpoint_every: int = parameter(ge=0, le=10**4)  # gradient checkpointing: a state kept for so many glimpses; 0: all kept
    device: Device
    precision: Precision
    capture: Literal["auto", "off"] = "auto"       # auto: on a GPU, a step as one CUDA graph for each width of captions
    compile: Literal["auto", "always", "off"] = "auto"  # small operations fused by torch.compile; auto: on a GPU
    threads: int = parameter(ge=0, le=MAX_THREADS, default=0)  # of the CPU; 0: PyTorch's choice

    # The KL's weight rises evenly from 0 to 1 over this share of the epochs (Bowman et al., 2016); 0: it is 1 throughout.
    kl_warmup: float = parameter(ge=0, le=1, default=0.0)

    def kl_weight(self, done: float) -> float:
        """The weight of the KL after `done` epochs."""
        return min(1.0, done / (self.kl_warmup * self.epochs)) if self.kl_warmup else 1.0

    def validate(self, where: str) -> None:
        """Raise UserError where the rate would rise, or no caption could be short and long enough."""
        if self.schedule.final_learning_rate > self.learning_rate:
            raise UserError(f"parameter '{where}.schedule.final_learning_rate' is {self.schedule.final_learning_rate}, above "
                            f"'{where}.learning_rate', {self.learning_rate}: a schedule lowers the rate")
        if self.min_words > self.max_words:
            raise UserError(f"parameter '{where}.min_words' is {self.min_words}, above max_words, {self.max_words}: "
                            "no caption could be trained on")
