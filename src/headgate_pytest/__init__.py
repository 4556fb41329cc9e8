"""The pytest plugin: fixtures to put a surge or an outage into a test suite.

pytest loads this at every start, in every project of the environment: it imports nothing of headgate until a fixture
is used, and lives beside the package because importing anything inside it imports all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headgate.lab.in_tests import Lab
    from headgate.lab.provider.process import ProviderProcess


@pytest.fixture
def headgate_lab(request: pytest.FixtureRequest) -> Lab:
    """Plays scenarios in virtual time: ``headgate_lab.play("surge-outage", config="my.yaml").must(goodput=0.6)``

    Relative paths count from the test's folder, then from pytest's root folder.
    """
    from headgate.lab.in_tests import Lab

    return Lab((request.path.parent, request.config.rootpath))


@pytest.fixture
def headgate_provider() -> Iterator[ProviderProcess]:
    """A simulated OpenAI-compatible provider, a process of its own: ``base_url``, ``schedule(...)``, ``ledger()``."""
    from headgate.lab.provider.process import ProviderProcess

    with ProviderProcess() as provider:
        yield provider
