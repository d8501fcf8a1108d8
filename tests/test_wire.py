"""The wire format: what is encoded decodes to the same message, and anything else is refused."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healmpi.algorithms import central
from healmpi.messages import HEADER_BYTES, MODEL, Message, kind, kind_count, named, numbered
from healmpi.overlay import elevator
from healmpi.worlds.wire import WireError, decode, encode

int32 = st.integers(-(2**31), 2**31 - 1)
payloads = st.one_of(
    st.none(),
    st.lists(int32, max_size=50).map(tuple),
    st.lists(st.floats(width=32), max_size=50).map(lambda values: np.array(values, np.float32)),
)
kinds = st.sampled_from((*elevator.KINDS, *central.Central.kinds))
messages = st.builds(Message, kinds, int32, int32, int32, int32, payloads, st.integers(-(2**63), 2**63 - 1))


def expected_bytes(message: Message) -> int:
    """A header, and 4 bytes an id or float."""
    return HEADER_BYTES + (0 if message.payload is None else 4 * len(message.payload))


@given(messages, int32)
def test_a_message_survives_the_wire_with_the_time_when_it_is_due(message, due):
    buffer = encode(message, due)
    assert len(buffer) == expected_bytes(message)
    due_there, back = decode(np.frombuffer(bytes(buffer), np.uint8))
    assert due_there == due and back.kind is message.kind is numbered(int(back.kind))
    assert back[:5] == message[:5] and back.number == message.number
    if isinstance(message.payload, np.ndarray):
        assert back.payload.dtype == np.float32 and back.payload.tobytes() == message.payload.tobytes()
        assert not back.payload.flags.writeable
    else:
        assert back.payload == message.payload


@given(messages, st.integers(1, 40))
def test_a_truncated_or_lengthened_message_is_refused_unless_it_holds_whole_values(message, by):
    """How many values there are is told by the length, which MPI knows."""
    buffer = encode(message, 7)
    for broken in (buffer[:-by], buffer + bytes(by)):
        if by % 4 or message.payload is None or len(broken) < HEADER_BYTES:
            with pytest.raises(WireError):
                decode(broken)
        else:
            assert expected_bytes(decode(broken)[1]) == len(broken)


def test_the_header_is_small_and_fixed():
    assert HEADER_BYTES == 32 and len(encode(Message(elevator.CACHE_REQUEST, 1, 2, 3, 4), 5)) == 32


# Kinds of messages.


def test_a_kind_is_found_by_its_name_and_by_its_number_and_stays_itself_in_a_pickle():
    for number in range(kind_count()):
        one = numbered(number)
        assert one == number and named(one.name) is one and repr(one) == one.name
        assert pickle.loads(pickle.dumps(one)) is one and copy.deepcopy(one) is one


def test_a_kind_that_is_declared_again_is_the_same_and_must_mean_the_same():
    assert kind("model", carries_model=True) is MODEL
    with pytest.raises(ValueError, match="'model' have another meaning already"):
        kind("model")


@pytest.mark.parametrize("name", ["", "two words", "8th", "gr\u00f6\u00dfe", "x" * 17])
def test_a_kind_needs_a_name_that_fits_into_the_tables(name):
    with pytest.raises(ValueError, match="at most 16 ASCII letters"):
        kind(name)
