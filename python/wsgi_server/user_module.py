"""Makes a user's module called `wsgi` importable in a process that also needs the package `wsgi`.

If a user's wsgi.py is served, `import wsgi` gives that module, in the serving process and in processes that
`multiprocessing` starts, which inherit only `sys.path`. For that the directory `first_on_path` is the first entry, and
its wsgi.py runs `load` below. The modules of the package stay importable (`wsgi.server`, `wsgi.application`), and do
not replace names of the user's module.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["DIRECTORY", "clashes", "install", "load", "remove"]

_NAME = "wsgi"
_PACKAGE = Path(__file__).parent.parent / _NAME
DIRECTORY = str(Path(__file__).parent / "first_on_path")
"""What `install` puts first on `sys.path`."""


class _Held:
    """Holds the package while the user's module has its name."""

    package: ModuleType | None = None


class _UserModule(ModuleType):
    """The user's module; names that it lacks are looked up in the package."""

    def __getattr__(self, name: str) -> object:
        # `__all__` and other special names of the package do not describe this module.
        if _Held.package is None or (name.startswith("__") and name != "__version__"):
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        return getattr(_Held.package, name)

    def __setattr__(self, name: str, value: object) -> None:
        # The import of `wsgi.server` sets `server` here, where the user may have a name like that.
        if _Held.package is not None and isinstance(value, ModuleType) and _is_part(name, value):
            setattr(_Held.package, name, value)
        else:
            super().__setattr__(name, value)


def install() -> None:
    """Makes the next `import wsgi` give the user's module, in this process and in those that it starts.

    If the import fails, call `remove`.
    """
    _Held.package = sys.modules.pop(_NAME)
    sys.path.insert(0, DIRECTORY)


def remove() -> None:
    """Undoes `install`: `import wsgi` gives the package again."""
    if _Held.package is not None:
        sys.modules[_NAME] = _Held.package
        _Held.package = None
        sys.path[:] = [entry for entry in sys.path if entry != DIRECTORY]


def clashes(locations: list[str]) -> list[str]:
    """The modules in a user's package called `wsgi` that have the name of a module of this package."""
    parts = {entry.name.partition(".")[0] for entry in _PACKAGE.iterdir()}
    names = {entry.name.partition(".")[0] for place in locations for entry in Path(place).iterdir()}
    return sorted(name for name in parts & names if not name.startswith("__"))


def load() -> None:
    """Imports the user's module in place of the module that is being imported as `wsgi`."""
    if _Held.package is None:
        _Held.package = _own_package()
    spec = _users_spec()
    if spec is None:
        sys.modules[_NAME] = _Held.package
        return
    module = _UserModule(_NAME)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__package__ = spec.parent
    if spec.has_location and spec.origin:
        module.__file__ = spec.origin
        module.__cached__ = spec.cached
    module.__path__ = [*(spec.submodule_search_locations or ()), *_Held.package.__path__]
    sys.modules[_NAME] = module
    if spec.has_location and spec.loader is not None:
        spec.loader.exec_module(module)


def _own_package() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        _NAME, _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    if spec is None or spec.loader is None:  # a package without its file
        raise ModuleNotFoundError(name=_NAME)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


def _users_spec() -> importlib.machinery.ModuleSpec | None:
    """The first `wsgi` on the path that is neither the package nor `first_on_path`."""
    for entry in sys.path:
        # One entry at a time, because a search over all prefers a package with `__init__.py` to an earlier directory.
        spec = importlib.machinery.PathFinder.find_spec(_NAME, [entry]) if entry != DIRECTORY else None
        if spec is not None and not _is_own(spec):
            return spec
    return None


def _is_own(spec: importlib.machinery.ModuleSpec) -> bool:
    places = spec.submodule_search_locations or ()
    return any(os.path.realpath(place) == os.path.realpath(_PACKAGE) for place in places)


def _is_part(name: str, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None) or ""
    return sys.modules.get(f"{_NAME}.{name}") is module and file.startswith(str(_PACKAGE) + os.sep)
