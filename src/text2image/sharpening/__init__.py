"""Sharpening of samples (paper, section 3.4): a generator, its training, and what conditions it."""
