"""Learning: data sets, who holds which part of them, networks, and training on flat vectors."""
