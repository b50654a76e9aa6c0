"""Our reading of requests differs from h11's and llhttp's only as docs/differential.md says."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("httptools") is None:
    pytest.skip("the group `differential` is not installed here", allow_module_level=True)

from tests.differential.cases import generated, seeds
from tests.differential.comparing import Difference, compare, explained

SEED = 9112
CASES = 25_000
"""Ten seconds or so. `make test-differential` draws more."""


@pytest.fixture(scope="module")
def of_seeds() -> dict[Difference, bytes]:
    return compare(seeds())


def rows_of(differences: dict[Difference, bytes]) -> set[tuple[str, str]]:
    return {(difference.ours, difference.other) for difference in differences}


def test_every_row_of_the_page_is_shown_by_a_seed(of_seeds: dict[Difference, bytes]) -> None:
    assert explained() - rows_of(of_seeds) == set()


def test_disagreements_are_those_that_the_page_explains() -> None:
    rows = explained()
    wrong = {
        f"{difference.ours} ({difference.other})": case
        for difference, case in compare(generated(CASES, SEED)).items()
        if not difference.explained or (difference.ours, difference.other) not in rows
    }
    assert wrong == {}
