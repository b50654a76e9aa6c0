"""Profiles are read: costs of functions, of what they call, of libraries."""

from __future__ import annotations

from benchmarks.callgrind import Function, Profile

# main (10) calls twice a function of another library (7 each), which calls itself once and one of main's library.
PROFILE = """\
# callgrind format
events: Ir

ob=(1) /usr/bin/program
fl=(1) program.c
fn=(1) main
10 4
+2 6
cob=(2) /usr/lib/_core.so
cfi=(2) core.rs
cfn=(2) serve
calls=2 5
* 30

ob=(2)
fl=(2)
fn=(2)
5 8
fi=(3) inlined.rs
-1 6
cfi=(2)
cfn=(2)
calls=1 5
+4 9
cob=(1)
cfi=(1)
cfn=(3) allocate
calls=4 20
* 16

ob=(1)
fl=(1)
fn=(3)
20 16
totals: 40
"""


def test_functions_have_their_own_and_inclusive_costs() -> None:
    profile = Profile(PROFILE.splitlines())
    assert profile.functions() == [
        Function("allocate", "program", own=16, inclusive=16, calls=4),
        # What it takes in its own name is in what it takes by itself.
        Function("serve", "_core.so", own=14, inclusive=30, calls=3),
        Function("main", "program", own=10, inclusive=40, calls=0),
    ]
    assert profile.total == 40


def test_libraries_have_the_sum_of_their_functions() -> None:
    assert Profile(PROFILE.splitlines()).libraries() == {"program": 26, "_core.so": 14}
