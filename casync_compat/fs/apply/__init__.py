"""From nodes to a tree on disk, beneath the target only."""
