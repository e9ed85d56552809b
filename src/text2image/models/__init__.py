"""The models: one module a kind (text2image.models.base is their protocol), and their checkpoints."""
