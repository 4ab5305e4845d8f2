"""A Host and a Guest in another thread, one pair for all plain tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integrations.apps import Diary, make_app
from tests.integrations.stacks import ThreadedStack, threaded_stack
from tests.support.certificates import Certificates


@pytest.fixture(scope="package")
def _shared(certs: Certificates) -> Iterator[tuple[Diary, ThreadedStack]]:
    diary = Diary()
    with threaded_stack(make_app(diary), certs) as threaded:
        yield diary, threaded


@pytest.fixture
def shared(_shared: tuple[Diary, ThreadedStack]) -> Iterator[tuple[Diary, ThreadedStack]]:
    """The app's diary on a new page, and the stack; at the end nothing may be under way any more."""
    diary, threaded = _shared
    diary.turn_page()
    yield diary, threaded
    threaded.until(lambda: diary.active == 0)
