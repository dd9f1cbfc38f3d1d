"""OCI images made of casync indexes. See README.md in this directory."""
