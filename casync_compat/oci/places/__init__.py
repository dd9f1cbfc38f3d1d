"""Where images are: layouts, docker archives, registries, opened by their names."""
