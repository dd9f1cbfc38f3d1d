"""Trees as file systems of the kernel, over /dev/fuse: nothing is read but what somebody looks at."""
