"""Layers merged into one tree, and that tree written to a fresh directory."""
