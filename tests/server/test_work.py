"""What a request costs grows with its size and no faster, however it is made and however it comes.

The work is counted in instructions of the processor, which are the same at every run, as measured times are not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    # Counting is slow, and so is building on a busy machine.
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("valgrind") is None, reason="the program valgrind, which counts instructions, is not installed"
    ),
    pytest.mark.skipif(
        shutil.which("cargo") is None, reason="the program cargo, which builds what is counted, is not installed"
    ),
]

COUNTER = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]

# The size of each case: enough for a second look at all that came before to show beside the work for a packet.
SIZES = {
    "line-by-byte": 8192,
    "value-by-byte": 8192,
    "fields-by-byte": 8192,
    "fields-of-one-name": 16_384,
    "body-by-byte": 8192,
    "chunks": 50_000,
    "chunks-by-byte": 8192,
    "trailers": 16_384,
    "empty-lines": 200_000,
    "pipelined": 16_384,
}

MOST = 2.3
"""How much more work twice the size may be. A look at all that came before would make it four times as much."""


@pytest.fixture(scope="module")
def binary() -> Path:
    """The unit tests of the engine, as `cargo test` builds them."""
    done = subprocess.run(
        ["cargo", "test", "--no-default-features", "--lib", "--no-run", "--quiet", "--message-format=json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
        check=True,
    )
    found = [json.loads(line).get("executable") for line in done.stdout.splitlines()]
    (path,) = [Path(path) for path in found if path]
    return path


@pytest.fixture(scope="module")
def count(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], int]:
    """Counts the instructions of a case."""
    directory = tmp_path_factory.mktemp("work")

    def count(case: str, size: int) -> int:
        done = subprocess.run(
            [*COUNTER, str(binary), "--exact", "engine::connection::work::work", "--ignored", "--test-threads=1"],
            cwd=directory,
            env={**os.environ, "WORK_CASE": case, "WORK_SIZE": str(size)},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout
        (refs,) = re.findall(r"I\s+refs:\s+([0-9,]+)", done.stderr)
        return int(refs.replace(",", ""))

    return count


@pytest.mark.parametrize("case", SIZES)
def test_work_for_twice_the_size_is_twice_the_work(case: str, count: Callable[[str, int], int]) -> None:
    size = SIZES[case]
    # What the process does in any case is no part of it.
    start = count(case, 0)
    once, twice = count(case, size) - start, count(case, 2 * size) - start
    assert once > size
    assert twice <= MOST * once
