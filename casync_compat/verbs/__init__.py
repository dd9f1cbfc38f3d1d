"""One verb a file: what the command line and the library do."""
