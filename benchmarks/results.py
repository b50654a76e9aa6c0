"""Results in a file: what was measured, where, with which versions and options."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.summary import Sample


@dataclass
class Results:
    """One run, or several of the same machine put together.

    Parameters:
        machine: in general terms.
        versions: of what was measured.
        options: of the run.
        samples: in the order they were taken.
    """

    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, str]
    samples: list[Sample] = field(default_factory=list)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Results:
        """Reads files; what a later one measured replaces what an earlier one did of the same workload and server."""
        results = cls({}, {}, {})
        for path in paths:
            content = json.loads(path.read_text("utf-8"))
            fresh = [Sample(**sample) for sample in content["samples"]]
            measured = {(sample.workload, sample.server) for sample in fresh}
            kept = [sample for sample in results.samples if (sample.workload, sample.server) not in measured]
            results = cls(content["machine"], {**results.versions, **content["versions"]}, content["options"], kept)
            results.samples += fresh
        return results
