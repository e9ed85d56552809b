"""The training step: forward, backward, clip, update. One object, so that it can be replaced: eager, or distributed."""


import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from text2image.data.datasets import Batch
from text2image.models.base import Bound, ImageModel
from text2image.training.distributed import DistributedContext
from text2image.training.optimizers import clip_gradients
from text2image.training.train_config import TrainConfig


class EagerStep:
    """One step at a time, operation by operation, in one process."""

    def __init__(self, model: ImageModel, config: TrainConfig, context: DistributedContext):
        self.model, self.config, self.context = model, config, context
        # On a GPU and between processes a dense gradient is faster, and its shape is always the same.
        model.sparse_gradients = (config.optimizer.takes_sparse and context.device.type == "cpu" and context.world_size == 1)
        model.checkpoint_every = config.checkpoint_every
        self.optimizer = config.optimizer.make(model.parameters(), config.learning_rate)
        self.forward: nn.Module = model

    def __call__(self, batch: Batch, noise: Tensor, learning_rate: float) -> Tensor:
        """Update the weights by the mean negative ELBO of a batch; noise as `model.noise_shape` says.

        Returns the sums of reconstruction and KL over this process's shard, (2,) float64, without waiting for a GPU.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        captions = len(batch.words)
        noise, batch = noise[:, self.context.shard], batch.shard(self.context.shard)
        bound = self.forward(batch.images, batch.words, noise, batch.lengths)
        self.optimizer.zero_grad()
        # Gradients of several processes are means over them.
        (bound.negative_elbo.sum() * (self.context.world_size / captions)).backward()
        clip_gradients(self.model, self.config.clip, self.config.clip_norm)
        self.optimizer.step()
        return sums(bound)


class DistributedStep(EagerStep):
    """As `EagerStep`, in each of several processes; gradients are averaged over them by DistributedDataParallel."""

    def __init__(self, model: ImageModel, config: TrainConfig, context: DistributedContext):
        super().__init__(model, config, context)
        self.forward = DistributedDataParallel(model)


def make_step(model: ImageModel, config: TrainConfig, context: DistributedContext) -> EagerStep:
    """The step for this world: eager in one process, else distributed."""
    return (EagerStep if context.world_size == 1 else DistributedStep)(model, config, context)


def sums(bound: Bound) -> Tensor:
    """Summed reconstruction and KL of a batch, (2,) float64."""
    return torch.stack([bound.reconstruction.detach().sum(), bound.kl.detach().sum()]).double()
