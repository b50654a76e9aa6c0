"""Builds the fuzz targets and runs them, each for a bounded time. Exits with 1 if an input broke a property.

Everything that is needed comes with the stable toolchain and a C++ compiler: the flags below are what `cargo fuzz` asks
of a nightly one, without the sanitizers: they find nothing in code without `unsafe`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
CORPUS = FUZZ.parent / "tests" / "corpus"
TARGETS = sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))
LARGEST = 4096
"""Bytes of an input. Larger ones reach no other code, and are slower."""

COVERAGE = [
    "passes=sancov-module",
    "llvm-args=-sanitizer-coverage-level=4",
    "llvm-args=-sanitizer-coverage-inline-8bit-counters",
    "llvm-args=-sanitizer-coverage-pc-table",
    "llvm-args=-sanitizer-coverage-trace-compares",
    "codegen-units=1",
]

KEEP = """\
{target} is broken by {path}
  explained:   cp {path} fuzz/seeds/{target}/NAME.bin && make test-rust
               (which replays everything in fuzz/seeds, and so keeps it from coming back)
  on the wire: what a client sends also belongs in tests/corpus, as NAME.http with its row in cases.tsv; of an input of
               `connection`, that is what stands behind its choices"""


def corpus_files() -> Iterator[tuple[str, bytes]]:
    """The wire corpus, as far as a fuzzer can use it."""
    for path in sorted(CORPUS.glob("*.http")):
        content = path.read_bytes()
        if len(content) <= LARGEST:
            yield path.stem, content


def websocket_seeds() -> Iterator[tuple[str, bytes]]:
    """Frames of a client, masked with zeros, behind the default choices."""

    def frame(first: int, payload: bytes = b"") -> bytes:
        return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload

    fragments = frame(0x01, b"Hel") + frame(0x89, b"ping") + frame(0x80, b"lo")
    yield "fragments", b"\0" + fragments + frame(0x88, b"\x03\xe8bye")
    yield "binary", b"\0" + frame(0x82, bytes(125)) * 3
    # The seventh choice negotiates compression.
    yield "compressed", bytes([7, 0, 0, 0, 0, 0, 0, 1]) + frame(0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\0")


def seeds(target: str) -> Iterator[tuple[str, bytes]]:
    """What the wire corpus has for a target."""
    if target == "websocket":
        yield from websocket_seeds()
    for name, content in corpus_files():
        head, _, body = content.partition(b"\r\n\r\n")
        line, _, lines = head.partition(b"\r\n")
        if target == "head":
            yield name, content
        elif target == "connection":
            # The default options and an application that answers; another application that reads and writes in pieces.
            yield name, b"\0" + content
            yield f"{name}-pieces", bytes([24, *([0] * 12), 2, 5, 0, 0, 0, 0, 7, 3, 13, 7, 4, 13]) + content
        elif target == "chunked" and b"chunked" in head and body:
            yield name, body
        elif target == "target" and len(words := line.split(b" ")) == 3:
            yield name, words[1] + b"\n" + lines


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    executions: int
    seconds: int
    edges: int
    features: int
    """Edges, counted by how often each was taken, and comparisons: what libFuzzer steers by."""
    inputs: int
    broken: bool


def build() -> Path:
    """Builds all targets with coverage; returns the folder of their programs."""
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = next(line.removeprefix("host: ") for line in version.splitlines() if line.startswith("host: "))
    flags = " ".join(["--cfg fuzzing", *(f"-C{flag}" for flag in COVERAGE)])
    # With a target named, build scripts and macros are not instrumented.
    command = ["cargo", "build", "--release", "--quiet", "--target", host, "--manifest-path", str(FUZZ / "Cargo.toml")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_PROFILE_")}
    folder = FUZZ / "target"
    subprocess.run(command, check=True, env={**environment, "RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(folder)})
    return folder / host / "release"


def folders(target: str) -> tuple[Path, list[Path]]:
    """The folder of inputs that are found, and those that are given."""
    found, given, kept = FUZZ / "corpus" / target, FUZZ / "corpus" / f"{target}-given", FUZZ / "seeds" / target
    for folder in (found, given):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds(target):
        (given / name).write_bytes(content)
    return found, [given, *([kept] if kept.is_dir() else [])]


def run(binary: Path, target: str, seconds: int) -> Outcome:
    """Runs a target once."""
    found, given = folders(target)
    artifacts = FUZZ / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    command = [
        str(binary),
        f"-max_total_time={seconds}",
        f"-max_len={LARGEST}",
        f"-dict={FUZZ / 'http.dict'}",
        f"-artifact_prefix={artifacts}{os.sep}",
        "-timeout=20",
        "-print_final_stats=1",
        *map(str, [found, *given]),
    ]
    result = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    log = result.stderr
    if result.returncode != 0:
        print("\n".join(log.splitlines()[-40:]))
        for path in re.findall(r"Test unit written to (\S+)", log):
            print(KEEP.format(target=target, path=os.path.relpath(path)))

    def last(pattern: str) -> int:
        return int((re.findall(pattern, log) or ["0"])[-1])

    return Outcome(
        executions=last(r"stat::number_of_executed_units:\s*(\d+)"),
        seconds=last(r"Done \d+ runs in (\d+) second"),
        edges=last(r"cov: (\d+)"),
        features=last(r"ft: (\d+)"),
        inputs=last(r"corp: (\d+)/"),
        broken=result.returncode != 0,
    )


def minimise(binary: Path, target: str) -> None:
    """Keeps of the inputs that were found as few as reach the same code."""
    found, given = folders(target)
    smaller = found.with_name(f"{target}-smaller")
    smaller.mkdir(exist_ok=True)
    command = [str(binary), "-merge=1", f"-max_len={LARGEST}", *map(str, [smaller, found, *given])]
    subprocess.run(command, check=True, capture_output=True)
    for path in found.iterdir():
        path.unlink()
    found.rmdir()
    smaller.rename(found)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target in each round; default: %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=1, help="at most, while they reach new code; default: %(default)s"
    )
    parser.add_argument(
        "--minimise", action="store_true", help="afterwards, drop inputs that reach nothing of their own"
    )
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    binaries = build()
    broken = 0
    for target in options.targets or TARGETS:
        features = -1
        for _ in range(options.rounds):
            outcome = run(binaries / target, target, options.seconds)
            print(
                f"{target}: {outcome.executions} executions in {outcome.seconds} s, {outcome.edges} edges, "
                f"{outcome.features} features, {outcome.inputs} inputs{', BROKEN' if outcome.broken else ''}",
                flush=True,
            )
            broken += outcome.broken
            if outcome.broken or outcome.features <= features:
                break
            features = outcome.features
        if options.minimise and not outcome.broken:
            minimise(binaries / target, target)
    print(f"{len(options.targets or TARGETS) - broken} passed, {broken} failed")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
