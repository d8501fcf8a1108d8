"""The wire format: what is encoded decodes to the same message, and anything else is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healmpi.messages import HEADER_BYTES, Kind, Message, wire_bytes
from healmpi.worlds.wire import WireError, decode, encode

int32 = st.integers(-(2**31), 2**31 - 1)
payloads = st.one_of(
    st.none(),
    st.lists(int32, max_size=50).map(tuple),
    st.lists(st.floats(width=32), max_size=50).map(lambda values: np.array(values, np.float32)),
)
messages = st.builds(Message, st.sampled_from(Kind), int32, int32, int32, int32, payloads, st.integers(-(2**63), 2**63 - 1))


@given(messages)
def test_a_message_survives_the_wire(message):
    buffer = encode(message)
    assert len(buffer) == wire_bytes(message)
    back = decode(np.frombuffer(bytes(buffer), np.uint8))
    assert back[:5] == message[:5] and back.number == message.number
    if isinstance(message.payload, np.ndarray):
        assert back.payload.dtype == np.float32 and back.payload.tobytes() == message.payload.tobytes()
        assert not back.payload.flags.writeable
    else:
        assert back.payload == message.payload


@given(messages, st.integers(1, 40))
def test_a_truncated_or_lengthened_message_is_refused(message, by):
    buffer = bytes(encode(message))
    for broken in (buffer[:-by], buffer + bytes(by)):
        with pytest.raises(WireError):
            decode(broken)


def test_the_header_is_small_and_fixed():
    assert HEADER_BYTES == 32 and len(encode(Message(Kind.CACHE_REQUEST, 1, 2, 3, 4))) == 32
