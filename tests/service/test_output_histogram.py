"""What a load run says of its latencies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verser2_guest_python.service.calls.histogram import Latencies


def latencies(*values: float) -> Latencies:
    result = Latencies()
    for value in values:
        result.add(value)
    return result


def test_percentiles_are_values_that_were_measured() -> None:
    measured = latencies(*range(1, 101))
    assert [measured.percentile(percent) for percent in (0, 1, 50, 90, 99, 100)] == [1, 1, 50, 90, 99, 100]
    assert latencies(7.0).percentile(50) == 7.0


def test_few_requests_support_few_percentiles() -> None:
    names = [name for name, _ in latencies(*range(1, 11)).summary()]
    assert names == ["fastest", "mean", "50 %", "75 %", "90 %", "slowest"]
    names = [name for name, _ in latencies(*range(1, 1001)).summary()]
    assert names[-4:] == ["95 %", "99 %", "99.9 %", "slowest"]
    assert latencies(4.0).summary() == [
        ("fastest", "4.0 ms"),
        ("mean", "4.0 ms"),
        ("50 %", "4.0 ms"),
        ("slowest", "4.0 ms"),
    ]


def test_the_histogram_shows_bulk_and_tail() -> None:
    lines = latencies(*[1.2] * 80, *[1.8] * 40, 6.0, 1500).histogram()
    assert lines[0] == f"{'up to 1.5 ms':>14}  80  {'█' * 40}"
    assert lines[1] == f"{'up to 2 ms':>14}  40  {'█' * 20}"
    assert lines[2] == f"{'up to 3 ms':>14}   0"
    assert lines[4] == f"{'up to 7 ms':>14}   1  █"
    assert lines[-1] == f"{'up to 1.5 s':>14}   1  █"


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=200))
def test_every_request_is_in_one_bucket(values: list[float]) -> None:
    lines = latencies(*values).histogram("#")
    assert sum(int(line.split("s  ", 1)[1].split()[0].replace(",", "")) for line in lines) == len(values)
    assert all(len(line) <= 79 for line in lines)
