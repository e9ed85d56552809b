"""Every reader of foreign bytes, given files that are nearly right."""
