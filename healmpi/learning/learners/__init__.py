"""The ways to train the nodes of a rank that are shipped, a file each."""
