"""What `server-timing` fields say of the wait for a lease, whoever wrote them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verser2_guest_python.wire.server_timing import lease_timing, read_lease_wait


def read(*values: str) -> float | None:
    return read_lease_wait([(b"server-timing", value.encode("latin-1")) for value in values])


@given(st.floats(min_value=0, max_value=300))
def test_what_a_host_writes_is_read(seconds: float) -> None:
    name, value = lease_timing(seconds)
    assert read_lease_wait([(b"date", b"today"), (name, value)]) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "milliseconds"),
    [
        (["verser-lease;dur=12.3"], 12.3),
        (["verser-lease;dur=0"], 0),
        ([' verser-lease ; DUR = "7.5" '], 7.5),
        (['verser-lease;desc="a, b; dur=1 \\" c";dur=2'], 2),
        (["verser-lease;dur=1;dur=2"], 1),
        # A Host says its own last, whatever the app has said before.
        (["db;dur=53", "verser-lease;dur=1"], 1),
        (["verser-lease;dur=99, db;dur=53", "verser-lease;dur=1"], 1),
        (["verser-lease;dur=99, verser-lease;dur=1, db;dur=5"], 1),
        (['cache;desc="never ends', "verser-lease;dur=1"], 1),
    ],
)
def test_the_last_one_counts(values: list[str], milliseconds: float) -> None:
    assert read(*values) == pytest.approx(milliseconds / 1_000)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "db;dur=53",
        "verser-lease",
        "verser-lease;dur",
        "verser-lease;dur=",
        "verser-lease;dur=nan",
        "verser-lease;dur=inf",
        "verser-lease;dur=-1",
        "verser-lease;dur=1e3",
        "verser-lease;dur=0x10",
        "verser-lease;dur=1_0",
        "verser-lease;dur=1 2",
        'verser-lease;dur="1',
        'verser-lease;dur=1"',
        "verser-lease;dur=soon",
        "verser-lease;dur=9999999999",
        f"verser-lease;dur={'9' * 400}",
        f"verser-lease;dur=1.{'9' * 400}",
        "verser-lease;dur=²",
        "verser-lease;duration=1",
        "verser-lease-2;dur=1",
        "Verser-Lease;dur=1",
        'db;desc="verser-lease;dur=1"',
        "verser-lease;dur=1, verser-lease;dur=nan",
    ],
)
def test_what_is_no_length_of_time_says_nothing(value: str) -> None:
    assert read(value) is None


def test_other_fields_say_nothing() -> None:
    assert read_lease_wait([(b"x-timing", b"verser-lease;dur=1")]) is None
    assert read_lease_wait([]) is None


@given(
    st.lists(
        st.lists(
            st.sampled_from([b"verser-lease", b";dur=", b"1.5", b",", b";", b'"', b"\\", b"=", b" ", b"\xff"])
        ).map(b"".join)
        | st.binary()
    )
)
def test_any_bytes_are_a_time_or_nothing(values: list[bytes]) -> None:
    wait = read_lease_wait([(b"server-timing", value) for value in values])
    assert wait is None or (math.isfinite(wait) and 0 <= wait < 1e7)
