"""What images are made of, as values: descriptors, documents, names, and what a place of blobs promises. No IO."""
