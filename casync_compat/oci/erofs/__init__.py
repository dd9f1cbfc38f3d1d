"""EROFS images of trees: metadata that the kernel mounts by itself, with contents in a store of files."""
