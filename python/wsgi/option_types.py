"""The types of option values: each parses, validates and formats values.

A type reads a value from text (a flag or a variable) or from an object (a keyword or a TOML value). It raises a bare
`ValueError` for an invalid one; its `requirement` completes "must be …". `wsgi.settings` adds the name of the option
and the origin of the value.
"""

from __future__ import annotations

import operator
import os
import re
from typing import Generic, TypeVar

from wsgi.processors import usable_processors

__all__ = [
    "Account",
    "Bind",
    "Boolean",
    "Choice",
    "Directory",
    "Format",
    "Host",
    "Integer",
    "ListOf",
    "Mode",
    "Network",
    "OptionType",
    "Path",
    "Pattern",
    "Prefix",
    "Rate",
    "Seconds",
    "Size",
    "Text",
    "Umask",
    "Workers",
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


class OptionType(Generic[T]):
    """The type of an option.

    Attributes:
        metavar: the placeholder of the value in the help.
        requirement: completes "must be …" for text.
        typed_requirement: the same for a keyword or a TOML value, if it differs.
        repeatable: whether a flag may be given more than once.
    """

    metavar = "TEXT"
    requirement = "text"
    typed_requirement: str | None = None
    repeatable = False

    def from_text(self, text: str) -> T:
        """Parses a flag or a variable."""
        raise NotImplementedError

    def from_object(self, value: object) -> T:
        """Converts a keyword or a TOML value."""
        if isinstance(value, str):
            return self.from_text(value)
        raise ValueError

    def show(self, value: T) -> str:
        """Formats a value in the notation of the command line."""
        return str(value)


class Integer(OptionType[int]):
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
        # bool is an int in Python, but threads=True is a mistake; a float would be truncated silently.
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError
        return self.within(operator.index(value))

    def within(self, value: int) -> int:
        """Returns `value` if it is in the range."""
        if not self.minimum <= value <= self.maximum:
            raise ValueError
        return value


class Workers(OptionType["int | None"]):
    """A number of worker processes, or `auto` for one for each processor; None or `none` for one process without a
    supervisor."""

    metavar = "N"
    maximum = 512

    def __init__(self) -> None:
        self.requirement = f"a whole number from 1 to {self.maximum}, auto or none"

    def from_text(self, text: str) -> int | None:
        if text == "none":
            return None
        if text == "auto":
            return usable_processors()
        if not _DIGITS.fullmatch(text):
            raise ValueError
        return self._within(int(text))

    def from_object(self, value: object) -> int | None:
        if value is None:
            return None
        if isinstance(value, str):
            return self.from_text(value)
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError
        return self._within(operator.index(value))

    def _within(self, value: int) -> int:
        if not 1 <= value <= self.maximum:
            raise ValueError
        return value

    def show(self, value: int | None) -> str:
        return "none" if value is None else str(value)


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
    """A number of bytes per second."""

    metavar = "RATE"
    noun = "a rate"
    examples = "500 or 1k"

    def show(self, value: int) -> str:
        return f"{super().show(value)}/s"


class Seconds(OptionType[float]):
    """A duration in seconds from `minimum` to `maximum`, both included; 0 too if `zero` describes its meaning."""

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
        """Returns `value` as a float if it is in the range."""
        # Compared before conversion, because float() cannot convert an integer of 400 digits. NaN fails the comparison.
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


class Boolean(OptionType[bool]):
    """Yes or no."""

    metavar = "BOOL"
    requirement = "1, true, yes or on, or 0, false, no or off"
    typed_requirement = "true or false"
    _words = ({"1", "true", "yes", "on"}, {"0", "false", "no", "off"})

    def from_text(self, text: str) -> bool:
        word = text.lower()
        if not any(word in words for words in self._words):
            raise ValueError
        return word in self._words[0]

    def from_object(self, value: object) -> bool:
        # 1 and "yes" are for flags and variables; a program has True and TOML has true.
        if not isinstance(value, bool):
            raise ValueError
        return value

    def show(self, value: bool) -> str:
        return "yes" if value else "no"


class Choice(OptionType[str]):
    """One of several lower-case words."""

    def __init__(self, *words: str, metavar: str | None = None) -> None:
        self.words = words
        self.metavar = metavar or "|".join(words)
        self.requirement = f"one of {', '.join(words)}"

    def from_text(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ValueError
        return text.lower()


class Path(OptionType["str | None"]):
    """A path; empty text means none. Its existence is checked where it is used."""

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


class File(OptionType[str]):
    """The path of a file, which is read where it is used."""

    metavar = "FILE"
    requirement = "the path of a file"

    def from_text(self, text: str) -> str:
        if not text or "\0" in text:
            raise ValueError
        return text

    def from_object(self, value: object) -> str:
        return super().from_object(os.fspath(value) if isinstance(value, os.PathLike) else value)


class Directory(OptionType[str]):
    """A directory. `wsgi.settings` checks that it exists, when it is known what it is relative to."""

    metavar = "DIR"
    requirement = "a directory that exists"

    def from_text(self, text: str) -> str:
        if not text or "\0" in text:
            raise ValueError
        return text


class Text(OptionType["str | None"]):
    """One word or line; None: as it is."""

    def __init__(self, metavar: str, requirement: str, pattern: str) -> None:
        self.metavar = metavar
        self.requirement = requirement
        self._pattern = re.compile(pattern)

    def from_text(self, text: str) -> str:
        if not self._pattern.fullmatch(text):
            raise ValueError
        return text

    def from_object(self, value: object) -> str | None:
        return None if value is None else super().from_object(value)

    def show(self, value: str | None) -> str:
        return "unchanged" if value is None else value


class Account(Text):
    """A user or a group of the system, by name or number; None: as it is."""

    def __init__(self, metavar: str, noun: str) -> None:
        super().__init__(
            metavar, f"the name or the number of a {noun}", r"[^\s:/\x00-\x1f\x7f-][^\s:/\x00-\x1f\x7f]{0,255}"
        )

    def from_object(self, value: object) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(Integer(0, (1 << 32) - 2).within(value))
        return super().from_object(value)


class Prefix(OptionType[str]):
    """The beginning of every path that the application's clients see; a slash at its end is removed, and "" is none."""

    metavar = "PATH"
    requirement = "a path such as /shop, not escaped and without //, ., .., ? and #"

    def from_text(self, text: str) -> str:
        path = text.removesuffix("/")
        segments = path.split("/")
        if not path and text in ("", "/"):
            return ""
        if segments[0] or any(segment in ("", ".", "..") for segment in segments[1:]):
            raise ValueError
        if re.search(r"[\x00-\x1f\x7f\\?#%]", path):
            raise ValueError
        return path

    def show(self, value: str) -> str:
        return value or "none"


class Mode(OptionType["int | None"]):
    """The permission bits of a file in octal; None: 666 without the bits of the umask."""

    metavar = "OCTAL"
    requirement = "an octal mode from 000 to 777, such as 660"
    typed_requirement = 'an octal mode from 0o000 to 0o777, such as 0o660 or "660"'
    _bits = Integer(0, 0o777)
    _pattern = re.compile("(?:0o)?[0-7]{3,4}")

    def from_text(self, text: str) -> int:
        if not self._pattern.fullmatch(text):
            raise ValueError
        return self._bits.within(int(text, 8))

    def from_object(self, value: object) -> int | None:
        if value is None or isinstance(value, str):
            return None if value is None else self.from_text(value)
        return self._bits.from_object(value)

    def show(self, value: int | None) -> str:
        return "666 without the umask" if value is None else f"{value:03o}"


class Umask(Mode):
    """The bits that new files do not get, in octal; None: those of the process that starts the server."""

    requirement = "an octal mask from 0 to 777, such as 027"
    typed_requirement = 'an octal mask from 0 to 0o777, such as 0o027 or "027"'
    _pattern = re.compile("(?:0o)?[0-7]{1,4}")

    def show(self, value: int | None) -> str:
        return "unchanged" if value is None else super().show(value)


class Format(OptionType[str]):
    """A format of the access log. The core checks the directives."""

    metavar = "FORMAT"
    requirement = "one line of text that is not empty"

    def from_text(self, text: str) -> str:
        if not text.strip() or re.search("[\x00-\x1f\x7f]", text):
            raise ValueError
        return text


class Host(OptionType[str]):
    """A name or an address without a port; empty means every IPv4 interface, as in wsgiref."""

    metavar = "HOST"
    requirement = "a host name, an IPv4 or an IPv6 address, without a port"

    def from_text(self, text: str) -> str:
        host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        if _UNPRINTABLE.search(host) or any(mark in host for mark in "/[]@,"):
            raise ValueError
        # Only an IPv6 address has colons, at least two; "host:80" is a value for `bind`.
        if host.count(":") == 1 or (host != text and ":" not in host):
            raise ValueError
        return host or "0.0.0.0"


class Bind(OptionType[str]):
    """An address to listen on, normalised to `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`, `fd://N` or `fd://NAME`, with
    `http://` or `https://` in front if it was given so.
    """

    metavar = "ADDRESS"
    requirement = "HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N or fd://NAME, with or without https:// in front of it"
    _host = Host()
    _port = Integer(0, 65535)

    def from_text(self, text: str) -> str:
        for scheme in ("http://", "https://"):
            if text.startswith(scheme):
                return scheme + self._without_scheme(text[len(scheme) :])
        return self._without_scheme(text)

    def _without_scheme(self, text: str) -> str:
        if text.startswith("unix:"):
            if len(text) == len("unix:") or "\0" in text:
                raise ValueError
            return text
        # "fd:3" would otherwise be a host called fd.
        if text.startswith("fd:"):
            if not text.startswith("fd://"):
                raise ValueError
            label = text.removeprefix("fd://")
            if label.isdecimal():
                return f"fd://{Integer(0, (1 << 31) - 1).from_text(label)}"
            # systemd.socket(5), FileDescriptorName=.
            if not re.fullmatch("[!-~]{1,255}", label) or re.search("[:/,+]|^-", label):
                raise ValueError
            return text
        host, colon, port = text.rpartition(":")
        # The last group of an IPv6 address without brackets would be taken for the port.
        if not colon or (":" in host and not host.startswith("[")):
            raise ValueError
        return self.join(self._host.from_text(host), self._port.from_text(port))

    @staticmethod
    def join(host: str, port: int) -> str:
        """Formats a host and a port as one address."""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Network(OptionType[str]):
    """A set of peers: an IP address, a network in CIDR notation, `unix` for peers on Unix sockets, `*` for all."""

    metavar = "NETWORK"
    requirement = "an IP address, a network such as 10.0.0.0/8 without host bits, unix, or * for all"

    def from_text(self, text: str) -> str:
        if text in ("unix", "*"):
            return text
        # `ipaddress` also accepts netmasks and zone ids.
        if not _NETWORK.fullmatch(text):
            raise ValueError
        import ipaddress

        network = ipaddress.ip_network(text)
        mapped = network.version == 6 and network.network_address.ipv4_mapped is not None
        if mapped and network.prefixlen < 96:
            raise ValueError
        return str(network) if "/" in text else str(network.network_address)


class Pattern(OptionType[str]):
    """A request path, or a path prefix followed by `*`."""

    metavar = "PATTERN"
    requirement = "a path that begins with / and has a * only at its end, such as /healthz or /static/*"

    def from_text(self, text: str) -> str:
        if not text.startswith("/") or "*" in text[:-1] or _UNPRINTABLE.search(text):
            raise ValueError
        return text


class ListOf(OptionType["tuple[str, ...]"]):
    """Any number of values of one type: a repeated flag, a comma-separated variable, a list."""

    repeatable = True

    def __init__(self, one: OptionType[str]) -> None:
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
