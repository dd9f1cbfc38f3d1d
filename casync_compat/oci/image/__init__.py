"""Converted images: layers into indexes and packs of chunks, and out of them."""
