"""Results on disk: what a rank writes, how the parts become one file, whether that file is valid, and what it says.

The rule that surprises: h5py is imported in this package alone, and this package imports neither torch nor MPI.
"""
