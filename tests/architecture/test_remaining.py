"""The list of findings that remain can only shrink."""

from __future__ import annotations

from tests.architecture.remaining import REMAINING
from tests.architecture.test_rooms import FILES_IN_ROOMS, rust_findings
from tests.architecture.test_rust_cycles import FOUND, RUST
from tests.architecture.test_rust_types import shared_names, strayed_methods


def test_each_finding_that_remains_is_still_found() -> None:
    found = {finding for file in FILES_IN_ROOMS for finding in rust_findings(file)}
    assert sorted(REMAINING - found - FOUND.keys() - shared_names(RUST) - strayed_methods(RUST)) == []
