"""Who calls at a Host in its tests: peers with certificates of many names."""

from __future__ import annotations

import pytest

from tests.host.crowd import Crowd
from tests.support.certificates import Certificates


@pytest.fixture(scope="module")
def crowd(certs: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    return Crowd(tmp_path_factory.mktemp("crowd"), certs)
