"""Work spread over threads: the order of the results, and the first of several errors."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise.data.decode import in_threads


@settings(deadline=None)
@given(items=st.lists(st.integers(), max_size=40))
def test_results_in_order(items: list[int]) -> None:
    """Results come in the order of the items, whatever order they were finished in."""

    def work(item: int) -> int:
        time.sleep(item % 3 / 10_000)
        return -item

    assert in_threads(work, items) == [-item for item in items]


@settings(deadline=None, max_examples=30)
@given(bad=st.sets(st.integers(0, 29), min_size=1))
def test_the_first_error_is_raised(bad: set[int]) -> None:
    """Of several items that fail, the first one's error is raised, as without threads."""

    def work(item: int) -> None:
        if item in bad:
            time.sleep((30 - item) / 10_000)
            raise ValueError(str(item))

    with pytest.raises(ValueError, match=f"^{min(bad)}$"):
        in_threads(work, range(30))


def test_nothing_goes_on_after_an_error() -> None:
    """After a failure no further item is begun, and no thread is left."""
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise KeyError(item)
        time.sleep(0.005)

    before = threading.active_count()
    with pytest.raises(KeyError):
        in_threads(work, range(10_000))
    assert len(begun) < 100
    assert threading.active_count() == before


def test_uses_the_cores_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads run at once as there are cores for this process, at most 16."""
    for cores, expected in ((5, 5), (64, 16)):
        monkeypatch.setattr("purenoise.data.decode.available_cores", lambda cores=cores: cores)
        barrier = threading.Barrier(expected)
        in_threads(lambda _, barrier=barrier: barrier.wait(10), range(expected))
        found = in_threads(lambda _: (time.sleep(0.01), threading.get_ident())[1], range(100))
        assert len(set(found)) == expected
