"""From a tree on disk to nodes: what is read, in which order, and what is left out."""
