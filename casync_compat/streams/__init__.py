"""Streams of bytes and nodes in constant memory: buffers, pools, sinks, chunks put together, seeds, trees."""
