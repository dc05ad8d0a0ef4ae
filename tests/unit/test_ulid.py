"""Job ids."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.ulid import new_ulid

moments = st.floats(0, 2**48 / 1000 - 1)
randomness = st.binary(min_size=10, max_size=10)


def test_known_value() -> None:
    # The example of the specification (github.com/ulid/spec): 1469918176385 ms is 01ARYZ6S41.
    assert new_ulid(1469918176.385, bytes(10)) == "01ARYZ6S410000000000000000"
    assert new_ulid(0, b"\xff" * 10) == "0000000000ZZZZZZZZZZZZZZZZ"


@given(moments, randomness)
def test_26_characters_without_the_confusing_ones(now_s: float, random: bytes) -> None:
    ulid = new_ulid(now_s, random)
    assert len(ulid) == 26
    assert set(ulid) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@given(moments, moments, randomness, randomness)
def test_later_sorts_later(first_s: float, second_s: float, one: bytes, two: bytes) -> None:
    if int(first_s * 1000) < int(second_s * 1000):
        assert new_ulid(first_s, one) < new_ulid(second_s, two)


@given(moments, randomness, randomness)
def test_randomness_tells_apart(now_s: float, one: bytes, two: bytes) -> None:
    assert (new_ulid(now_s, one) == new_ulid(now_s, two)) is (one == two)


def test_clock_before_1970_is_no_error() -> None:
    assert len(new_ulid(-5.0, os.urandom(10))) == 26
