"""The file system room: trees to nodes (`scan`) and nodes to trees (`apply`)."""
