"""Packed stores: chunks by the thousand in one file, an index of segments, and a head that is swapped."""
