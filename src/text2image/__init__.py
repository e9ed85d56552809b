"""alignDRAW in PyTorch: generating images from captions with attention (Mansimov et al., ICLR 2016)."""
