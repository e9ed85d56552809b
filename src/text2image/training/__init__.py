"""The training loop and what it is made of: step, optimizers, schedule, distributed training, resuming."""
