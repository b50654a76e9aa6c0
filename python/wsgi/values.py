"""How one sort of option value is read, judged and shown.

A kind reads a value from text (a flag or a variable) or from an object (a keyword or a TOML value). It raises a bare
`ValueError` for what it refuses; its `requirement` says what it wants and completes "must be …". Which option was
wrong, and where the value came from, is known to `wsgi.settings` alone.
"""

from __future__ import annotations

import operator
import os
import re
from typing import Generic, TypeVar

__all__ = [
    "Bind",
    "Boolean",
    "Choice",
    "Directory",
    "Format",
    "Host",
    "Integer",
    "Kind",
    "Many",
    "Mode",
    "Network",
    "Path",
    "Pattern",
    "Rate",
    "Seconds",
    "Size",
]

T = TypeVar("T")

_DIGITS = re.compile("[0-9]{1,30}")
_SIZE = re.compile("([0-9]{1,30}) ?(?:([kmgt])i?)?b?", re.IGNORECASE)
_TIME = re.compile("([0-9]{1,30}(?:[.][0-9]{1,30})?) ?(ms|s|m|h|d)?")
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE_NAMES = (("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NETWORK = re.compile("[0-9a-fA-F:.]{2,45}(?:/[0-9]{1,3})?")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f]")


class Kind(Generic[T]):
    """One sort of value.

    Attributes:
        metavar: stands for the value in the help.
        requirement: completes "must be …" for text.
        typed_requirement: the same for a keyword or a TOML value, where those differ.
        repeatable: whether a flag may be given more than once.
    """

    metavar = "TEXT"
    requirement = "text"
    typed_requirement: str | None = None
    repeatable = False

    def from_text(self, text: str) -> T:
        """Reads a flag or a variable."""
        raise NotImplementedError

    def from_object(self, value: object) -> T:
        """Reads a keyword or a TOML value."""
        if isinstance(value, str):
            return self.from_text(value)
        raise ValueError

    def show(self, value: T) -> str:
        """Gives the value as a person would write it."""
        return str(value)


class Integer(Kind[int]):
    """A whole number from `minimum` to `maximum`, both included."""

    metavar = "N"
    noun = "a whole number"

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.requirement = f"{self.noun} from {minimum} to {maximum}"

    def from_text(self, text: str) -> int:
        # int() alone would take "+5", "1_000" and the digits of other scripts.
        if not _DIGITS.fullmatch(text):
            raise ValueError
        return self.within(int(text))

    def from_object(self, value: object) -> int:
        # bool is an int to Python, but True threads are a mistake; a float would be cut silently.
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError
        return self.within(operator.index(value))

    def within(self, value: int) -> int:
        """Gives `value` if it lies in the range."""
        if not self.minimum <= value <= self.maximum:
            raise ValueError
        return value


class Size(Integer):
    """A number of bytes; k, M, G and T count in steps of 1024."""

    metavar = "SIZE"
    noun = "a size"
    examples = "8190, 64k or 1GiB"

    def __init__(self, minimum: int, maximum: int) -> None:
        super().__init__(minimum, maximum)
        self.requirement = f"{self.noun} from {self.show(minimum)} to {self.show(maximum)}, such as {self.examples}"

    def from_text(self, text: str) -> int:
        found = _SIZE.fullmatch(text)
        if found is None:
            raise ValueError
        return self.within(int(found[1]) * _SIZE_UNITS[(found[2] or "").lower()])

    def from_object(self, value: object) -> int:
        return self.from_text(value) if isinstance(value, str) else super().from_object(value)

    def show(self, value: int) -> str:
        for name, unit in _SIZE_NAMES:
            if value and value % unit == 0:
                return f"{value // unit} {name}"
        return f"{value} B"


class Rate(Size):
    """A number of bytes in a second."""

    metavar = "RATE"
    noun = "a rate"
    examples = "500 or 1k"

    def show(self, value: int) -> str:
        return f"{super().show(value)}/s"


class Seconds(Kind[float]):
    """A span of time in seconds from `minimum` to `maximum`, both included; 0 too where `zero` says what it means."""

    metavar = "TIME"

    def __init__(self, minimum: float, maximum: float, *, zero: str | None = None) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.zero = zero
        self.requirement = f"a time from {self.show(minimum)} to {self.show(maximum)}, such as 30, 1.5, 500ms or 2m"
        if zero is not None:
            self.requirement += f", or 0 ({zero})"

    def from_text(self, text: str) -> float:
        found = _TIME.fullmatch(text)
        if found is None:
            raise ValueError
        return self.within(float(found[1]) * _TIME_UNITS[found[2] or "s"])

    def from_object(self, value: object) -> float:
        if isinstance(value, str):
            return self.from_text(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError
        return self.within(value)

    def within(self, value: float) -> float:
        """Gives `value` as a float if it lies in the range."""
        # Compared before it is converted: float() cannot take an integer of 400 digits. A NaN fails both ways.
        if value == 0 and self.zero is not None:
            return 0.0
        if not self.minimum <= value <= self.maximum:
            raise ValueError
        return float(value)

    def show(self, value: float) -> str:
        if value and value % 86400 == 0:
            return f"{value / 86400:g} d"
        if 0 < value < 1:
            return f"{value * 1000:g} ms"
        return f"{value:g} s"


class Boolean(Kind[bool]):
    """Yes or no."""

    metavar = "BOOL"
    requirement = "1, true, yes or on, or else 0, false, no or off"
    typed_requirement = "true or false"
    _words = ({"1", "true", "yes", "on"}, {"0", "false", "no", "off"})

    def from_text(self, text: str) -> bool:
        word = text.lower()
        if not any(word in words for words in self._words):
            raise ValueError
        return word in self._words[0]

    def from_object(self, value: object) -> bool:
        # 1 and "yes" are for variables, which have no other way; a program has True and TOML has true.
        if not isinstance(value, bool):
            raise ValueError
        return value

    def show(self, value: bool) -> str:
        return "yes" if value else "no"


class Choice(Kind[str]):
    """One of a few words, in lower case."""

    def __init__(self, *words: str, metavar: str | None = None) -> None:
        self.words = words
        self.metavar = metavar or "|".join(words)
        self.requirement = f"one of {', '.join(words)}"

    def from_text(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ValueError
        return text.lower()


class Path(Kind["str | None"]):
    """A path; empty text means none. Whether it exists is found out where it is used."""

    metavar = "PATH"
    requirement = "a path"

    def from_text(self, text: str) -> str | None:
        if "\0" in text:
            raise ValueError
        return text or None

    def from_object(self, value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        return super().from_object(value)

    def show(self, value: str | None) -> str:
        return "off" if value is None else value


class Directory(Kind[str]):
    """A directory, always there to be looked at."""

    metavar = "DIR"
    requirement = "a directory that exists"

    def from_text(self, text: str) -> str:
        if not text or not os.path.isdir(text):
            raise ValueError
        return text


class Mode(Kind["int | None"]):
    """The permission bits of a file in octal; None leaves them to the umask."""

    metavar = "OCTAL"
    requirement = "an octal mode from 000 to 777, such as 660"
    typed_requirement = 'an octal mode from 0o000 to 0o777, such as 0o660 or "660"'
    _bits = Integer(0, 0o777)

    def from_text(self, text: str) -> int:
        if not re.fullmatch("(?:0o)?[0-7]{3,4}", text):
            raise ValueError
        return self._bits.within(int(text, 8))

    def from_object(self, value: object) -> int | None:
        if value is None or isinstance(value, str):
            return None if value is None else self.from_text(value)
        return self._bits.from_object(value)

    def show(self, value: int | None) -> str:
        return "666 less the umask" if value is None else f"{value:03o}"


class Format(Kind[str]):
    """A format of the access log. The core knows the directives and refuses unknown ones."""

    metavar = "FORMAT"
    requirement = "one line of text that is not empty"

    def from_text(self, text: str) -> str:
        if not text.strip() or re.search("[\x00-\x1f\x7f]", text):
            raise ValueError
        return text


class Host(Kind[str]):
    """A name or an address without a port; empty means every IPv4 interface, as it does for wsgiref."""

    metavar = "HOST"
    requirement = "a host name, an IPv4 or an IPv6 address, without a port"

    def from_text(self, text: str) -> str:
        host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        if _UNPRINTABLE.search(host) or any(mark in host for mark in "/[]@,"):
            raise ValueError
        # Any colon belongs to an IPv6 address, which has two at least; "host:80" is a bind.
        if host.count(":") == 1 or (host != text and ":" not in host):
            raise ValueError
        return host or "0.0.0.0"


class Bind(Kind[str]):
    """One place to listen on. What it gives is in one form: `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `fd://N`."""

    metavar = "ADDRESS"
    requirement = "HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N"
    _host = Host()
    _port = Integer(0, 65535)

    def from_text(self, text: str) -> str:
        if text.startswith("unix:"):
            if len(text) == len("unix:") or "\0" in text:
                raise ValueError
            return text
        # "fd:3" would be a host called fd.
        if text.startswith("fd:"):
            if not text.startswith("fd://"):
                raise ValueError
            return f"fd://{Integer(0, (1 << 31) - 1).from_text(text[len('fd://') :])}"
        host, colon, port = text.rpartition(":")
        # A bare IPv6 address would lose its last group to the port, so its brackets are required here.
        if not colon or (":" in host and not host.startswith("[")):
            raise ValueError
        return self.join(self._host.from_text(host), self._port.from_text(port))

    @staticmethod
    def join(host: str, port: int) -> str:
        """Writes a host and a port as one address."""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Network(Kind[str]):
    """Peers of one sort: an IP address, a network in CIDR notation, `unix` for those of Unix sockets, `*` for all."""

    metavar = "NETWORK"
    requirement = "an IP address, a network such as 10.0.0.0/8 with no bit set behind its prefix, unix, or * for all"

    def from_text(self, text: str) -> str:
        if text in ("unix", "*"):
            return text
        # The module alone would take masks in place of prefixes, and the zones of this machine.
        if not _NETWORK.fullmatch(text):
            raise ValueError
        import ipaddress

        network = ipaddress.ip_network(text)
        mapped = network.version == 6 and network.network_address.ipv4_mapped is not None
        if mapped and network.prefixlen < 96:
            raise ValueError
        return str(network) if "/" in text else str(network.network_address)


class Pattern(Kind[str]):
    """A request path, or the beginning of one followed by `*`."""

    metavar = "PATTERN"
    requirement = "a path that begins with / and has a * at its end at most, such as /healthz or /static/*"

    def from_text(self, text: str) -> str:
        if not text.startswith("/") or "*" in text[:-1] or _UNPRINTABLE.search(text):
            raise ValueError
        return text


class Many(Kind["tuple[str, ...]"]):
    """Any number of values of one kind: a repeated flag, a comma-separated variable, a list."""

    repeatable = True

    def __init__(self, one: Kind[str]) -> None:
        self.one = one
        self.metavar = one.metavar
        self.requirement = one.requirement
        self.typed_requirement = f"a list of {one.requirement}"

    def from_text(self, text: str) -> tuple[str, ...]:
        return tuple(self.one.from_text(part.strip()) for part in text.split(",") if part.strip())

    def from_object(self, value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            return (self.one.from_object(value),)
        if not isinstance(value, (list, tuple)):
            raise ValueError
        return tuple(self.one.from_object(item) for item in value)

    def show(self, value: tuple[str, ...]) -> str:
        return ", ".join(value) or "none"
