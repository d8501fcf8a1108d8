"""`results.wire_checks`: what arrives over MPI with other bits than it was sent with is told, and makes the run INVALID."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from digests import digests
from hypothesis import given
from hypothesis import strategies as st
from launch import ROOT, finish, healmpi, healmpi_mpi, mpirun, sets, start

from healmpi.worlds.checks import ERRORS, WireChecks, holds, with_sum
from healmpi.worlds.world import Facts

RUN = [
    "run",
    *sets("data.dataset=synthetic", "model.name=logistic", "run.nodes=4", "run.cycles=9", "elevator.hub_count=3"),
]
CHECKED = [*RUN, "--set", "results.wire_checks=true", "-o", "a.h5"]


@given(st.binary(min_size=32, max_size=200), st.data())
def test_any_flipped_bit_and_any_lost_message_is_noticed(message, data):
    facts = Facts()
    sender, receiver = WireChecks(0, Facts()), WireChecks(1, facts)
    first, second = sender.sealed([message[:9], message[9:]], 1), bytearray(sender.sealed([message[:9], message[9:]], 1))
    assert bytes(receiver.opened(bytearray(first), 0)) == message and facts.counts[ERRORS] == 0
    bit = data.draw(st.integers(0, 8 * len(second) - 1))
    second[bit // 8] ^= 1 << bit % 8
    assert receiver.opened(second, 0) is None
    assert facts.faults == ["rank 1 received message 1 from rank 0 with other bits than it was sent with (results.wire_checks)"]
    third = sender.sealed([message[:9], message[9:]], 1)
    del third
    assert receiver.opened(bytearray(sender.sealed([message[:9], message[9:]], 1)), 0) is None and facts.counts[ERRORS] == 2


@given(st.lists(st.floats(width=32), max_size=9), st.data())
def test_any_flipped_bit_of_a_slice_is_noticed(values, data):
    found = with_sum(np.array(values, np.float32))
    assert holds(found)
    bit = data.draw(st.integers(0, 32 * len(found) - 1))
    found.view(np.uint32)[bit // 32] ^= np.uint32(1 << bit % 32)
    assert not holds(found)


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["openmpi", "mpich"])
def test_checks_change_no_bits_and_a_bad_link_is_told(flavour, tmp_path):
    plain = healmpi("run", *RUN[1:], "-o", "plain.h5", "--world", "local", cwd=tmp_path)
    checked = healmpi_mpi(flavour, 2, *CHECKED, cwd=tmp_path)
    assert (plain.code, checked.code) == (0, 0), plain.err + checked.err
    assert digests(tmp_path / "plain.h5") == digests(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file[f"ranks/{ERRORS}"][:].tolist() == [0, 0]
    for which, words in (("message", "message 20 from rank 0"), ("group", "in a hub group")):
        (tmp_path / "a.h5").unlink()
        bad = [*mpirun(flavour, 2), "-m", "mpi4py", ROOT / "tests" / "wire_fault.py", which, *CHECKED]
        done = finish(start(bad, tmp_path), 90)
        assert done.code in (1, 3) and words in done.out + done.err, done
        assert "INVALID" in done.out or "the run cannot go on" in done.err, done
