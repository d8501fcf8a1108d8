"""The kinds of faults that there are, a file each."""
