"""Registries: blobs, manifests and tags over HTTP; who asks, and a registry as a chunk store."""
