"""Words, the grammar of MNIST with captions, and the prepared format with batches from it."""
