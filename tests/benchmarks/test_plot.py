"""The plot is well-formed, and its bars are what was measured."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks import plot
from benchmarks.summary import Sample

SVG = "{http://www.w3.org/2000/svg}"


def drawn(samples: list[Sample]) -> ET.Element:
    titles = {"hello": "a & <b>", "idle": "idle"}
    return ET.fromstring(plot.panels(samples, titles, "cpu_us", "wsgi"))


def sample(server: str, cpu: float, workload: str = "hello") -> Sample:
    return Sample(workload, server, 0, {"cpu_us": cpu})


def test_bars_are_sorted_and_as_long_as_their_figures() -> None:
    root = drawn([sample("slow", 40), sample("wsgi", 10), sample("kernel only", 5)])
    bars = [(bar.get("class"), float(bar.get("width", "0"))) for bar in root.iter(f"{SVG}rect") if bar.get("class")]
    assert [kind for kind, _ in bars] == ["floor", "ours", "other"]
    longest = bars[-1][1]
    assert [width / longest for _, width in bars] == pytest.approx([0.125, 0.25, 1], abs=0.01)
    tops = [float(bar.get("y", "0")) for bar in root.iter(f"{SVG}rect") if bar.get("class")]
    assert tops == sorted(set(tops))


def test_texts_name_workload_servers_and_figures() -> None:
    texts = [text.text for text in drawn([sample("wsgi", 10), sample("slow", 1234.56)]).iter(f"{SVG}text")]
    assert texts == ["CPU µs per request: shorter is better", "a & <b>", "wsgi", "10.0", "slow", "1,234.6"]


def test_workload_without_the_figure_or_a_second_server_has_no_panel() -> None:
    taken = [sample("wsgi", 10), Sample("idle", "wsgi", 0, {"held": 1}), Sample("idle", "slow", 0, {"held": 1})]
    root = drawn(taken)
    assert [text.text for text in root.iter(f"{SVG}text")] == ["CPU µs per request: shorter is better"]


def test_everything_lies_inside_the_picture() -> None:
    taken = [sample(f"server {number}", 10**number, workload) for number in range(6) for workload in ("hello", "idle")]
    root = drawn(taken)
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for bar in root.iter(f"{SVG}rect"):
        assert float(bar.get("x", "0")) + float(bar.get("width", "0")) <= width
        assert float(bar.get("y", "0")) + float(bar.get("height", "0")) <= height
    # Room for the longest figure behind the longest bar.
    assert all(float(text.get("x", "0")) <= width - 40 for text in root.iter(f"{SVG}text"))
