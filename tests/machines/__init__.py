"""Several machines, made on this one: what docs/scaling.md says of them, done. Run by hand, as root; the suite skips them."""
