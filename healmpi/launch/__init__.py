"""What a user starts: the command line, one run, a suite of them."""
