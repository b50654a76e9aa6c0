"""The programs of `native`, compiled when they are needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.processes import ROOT

SOURCES = Path(__file__).with_name("native")
BUILT = ROOT / "target" / "benchmarks"


def compiled(name: str) -> Path:
    """Compiles a program, unless it is there and no older than its source.

    Raises:
        SystemExit: there is no compiler, or it refuses.
    """
    source, program = SOURCES / f"{name}.c", BUILT / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("benchmarks: a C compiler is missing ('cc'): install gcc or clang")
    BUILT.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"benchmarks: {source.name} does not compile")
    return program
