"""What files of ours consist of, piece by piece, read by the declarations themselves; for `pycasync dump`."""
