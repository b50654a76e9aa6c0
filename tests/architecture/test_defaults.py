"""The engine's own defaults, which its tests and fuzz targets use, are those of the options."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from wsgi.settings import OPTIONS

RUST = Path(__file__).parents[2] / "src"
SOURCES = {path: path.read_text("utf-8") for path in sorted(RUST.rglob("*.rs"))}


def engine_fields() -> dict[str, str]:
    """The option that each field of the engine's options is read from, by the bindings."""
    value = r"Ok\(Options \{\n(.*?)\n        \}\)"
    (body,) = re.findall(value, SOURCES[RUST / "bindings" / "options.rs"], re.DOTALL)
    return dict(re.findall(r'\b(\w+): self\.(?:get|seconds)\("(\w+)"\)\?,', body))


def engine_defaults() -> dict[str, object]:
    """The numbers and switches in `impl Default` of `Options`, `WebSocketOptions` and `Limits`, by field."""
    found: dict[str, object] = {}
    for name in ("Options", "WebSocketOptions", "Limits"):
        pattern = rf"impl Default for {name} \{{.*?Self \{{(.*?)\}}"
        (body,) = [match[1] for text in SOURCES.values() for match in re.finditer(pattern, text, re.DOTALL)]
        for field, text in re.findall(r"(\w+): ([^,]+)(?:,|\s*$)", body):
            if (value := constant(text.strip())) is not None:
                found[field] = value
    return found


def constant(text: str) -> object:
    """The value of a literal, a product, a shift or a duration in seconds; None for anything else."""
    if text in ("true", "false"):
        return text == "true"
    text = re.sub(r"Duration::from_secs\((\d+)\)", r"\1", text)
    if not re.fullmatch(r"[0-9_]+(?: (?:<<|\*) [0-9_]+)?", text):
        return None
    left, operator, right = (*text.split(), "*", "1")[:3]
    first, second = int(ast.literal_eval(left)), int(ast.literal_eval(right))
    return first << second if operator == "<<" else first * second


@pytest.mark.parametrize(("field", "option"), engine_fields().items())
def test_default_of_the_engine_is_that_of_the_option(field: str, option: str) -> None:
    assert engine_defaults()[field] == OPTIONS[option].default


def test_engine_has_no_default_that_no_option_is_compared_with() -> None:
    assert engine_defaults().keys() == engine_fields().keys()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10_000", 10_000),
        ("64 * 1024", 65_536),
        ("1 << 30", 1 << 30),
        ("Duration::from_secs(75)", 75),
        ("true", True),
        ("None", None),
        ("Trust::default()", None),
    ],
)
def test_constant_reads_what_defaults_are_written_with(text: str, value: object) -> None:
    assert constant(text) == value
