"""`mpirun ... python -m mpi4py tests/wire_fault.py WHICH COMMAND...`: healmpi over a bad link. WHICH: 'message' or 'group'."""

import sys

import numpy as np

from healmpi.launch import cli
from healmpi.worlds import checks, hub_group

which, arguments = sys.argv[1], sys.argv[2:]
NUMBER = 20
"""Of the message from rank 0 to rank 1, and of the slice, that arrives with a bit flipped."""

sealed, with_sum, slices = checks.WireChecks.sealed, checks.with_sum, 0


def bad_message(self, pieces, target):
    found = sealed(self, pieces, target)
    wrong = self._rank == 0 and target == 1 and self._sent[target] == NUMBER + 1
    return found[:-9] + bytes([found[-9] ^ 1]) + found[-8:] if wrong else found


def bad_slice(values):
    global slices
    slices += 1
    found = with_sum(values)
    if slices == NUMBER:
        found[:1].view(np.uint32)[0] ^= 1
    return found


if which == "message":
    checks.WireChecks.sealed = bad_message
else:
    hub_group.with_sum = bad_slice
sys.argv[1:] = arguments
sys.exit(cli.main())
