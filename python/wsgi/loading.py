"""Finds the application that `MODULE:APP` names.

    hello:app                    an attribute
    shop.web:site.application    an attribute of an attribute
    shop.web:create("prod")      a factory, called with literals
    hello                        `app`, or else `application`
    path/to/hello.py:app         a file

The module is imported as any other, with the application's directory first on `sys.path`, under any name that
`importlib.import_module` takes. Two cases differ:

- A file called wsgi.py, which half of all projects have, has the name of this package. `wsgi_server.user_module` makes
  both reachable: `import wsgi` gives the user's module, here and in the processes of `multiprocessing`, and
  `import wsgi.server` a part of this package.
- A module whose name is taken by one that is imported already, of the standard library for example, is imported by its
  file, under the name `user_NAME`. Other processes do not find that name.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType

import wsgi
from wsgi.errors import LoadError
from wsgi.names import nearest
from wsgi_server import user_module

__all__ = ["load"]

_DEFAULT_NAMES = ("app", "application")
_FACTORY_NAMES = ("create_app", "make_app", "get_app", "create_application", "get_wsgi_application")
_IMPORT_MACHINERY = (
    "<frozen importlib",
    os.path.dirname(importlib.__file__) + os.sep,
    user_module.__file__,
    user_module.DIRECTORY,
    __file__,
)


def load(target: str, app_dir: Path) -> object:
    """Imports the module that `target` names and gives the application in it.

    Parameters:
        target: `MODULE`, `MODULE:ATTRIBUTE`, `MODULE:FACTORY(LITERALS)` or the same with a path to a file as MODULE.
        app_dir: where the application's modules stand; it becomes the first entry of `sys.path`.

    Raises:
        LoadError: nothing of that name is there, or the application's own code raised; then `__cause__` is its error.
    """
    module_name, colon, expression = target.partition(":")
    if not module_name or (colon and not expression.strip()):
        raise LoadError(f"{target!r} does not name an application: write MODULE:APP, such as hello:app")
    directory = Path(os.path.abspath(app_dir))
    if module_name.endswith(".py") or "/" in module_name or os.sep in module_name:
        directory, module_name = _module_of_file(directory / module_name)
    elif not all(module_name.split(".")) or "\0" in module_name:
        raise LoadError(f"{module_name!r} is not the name of a module: write MODULE:APP, such as hello:app")
    try:
        module = _import(module_name, directory)
        found, shown = _evaluate(module, expression.strip()) if colon else _default(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, LoadError) and not _ran(error):
            raise
        raise _own_error(target, error, directory) from error
    if not callable(found):
        raise LoadError(f"{shown!r} in {_where(module)} is not callable: it is of type {type(found).__name__}")
    return found


def _module_of_file(path: Path) -> tuple[Path, str]:
    """Gives the directory to import from and the module's name, which has dots where the file lies in a package."""
    if not path.is_file():
        beside = [entry.name for entry in _entries(path.parent) if entry.suffix == ".py"]
        raise LoadError(f"there is no file {str(path)!r}{nearest(path.name, beside)}")
    names = [] if path.name == "__init__.py" else [path.stem]
    directory = path.parent
    while (directory / "__init__.py").is_file():
        names.insert(0, directory.name)
        directory = directory.parent
    dotted = next((name for name in names if "." in name), None)
    if dotted is not None:
        raise LoadError(f"{str(path)!r} cannot be imported: a module's name has no dot, and {dotted!r} has one")
    return directory, ".".join(names)


def _import(name: str, directory: Path) -> ModuleType:
    """Imports a module by its dotted name with `directory` first on `sys.path`."""
    entry = str(directory)
    position = int(sys.path[:1] == [user_module.DIRECTORY])
    if sys.path[position : position + 1] != [entry]:
        sys.path.insert(position, entry)
    importlib.invalidate_caches()
    top, _, rest = name.partition(".")
    own = _spec_beside_taken(top, rest, entry)
    if own is not None and top == wsgi.__name__:
        _make_way(own)
    elif own is not None:
        alias = _import_by_file(top, own).__name__
        name = f"{alias}.{rest}" if rest else alias
    try:
        return importlib.import_module(name)
    except BaseException as error:
        user_module.remove()
        if not isinstance(error, ModuleNotFoundError) or _ran(error) or error.name is None:
            raise
        raise _not_found(error.name, directory) from None


def _make_way(spec: importlib.machinery.ModuleSpec) -> None:
    """Lets `import wsgi` give the user's module or package of that name."""
    locations = list(spec.submodule_search_locations or ())
    taken = user_module.clashes(locations)
    if taken:
        raise LoadError(
            f"the package {locations[0]!r} has the name of the server's package, which has a module {taken[0]!r} too: "
            "rename the directory"
        )
    user_module.install()


def _spec_beside_taken(top: str, rest: str, entry: str) -> importlib.machinery.ModuleSpec | None:
    """The application's module `top` if a module from elsewhere has that name already, None if a plain import does."""
    taken = sys.modules.get(top)
    spec = importlib.machinery.PathFinder.find_spec(top, [entry]) if taken is not None else None
    if taken is None or spec is None or _origins(spec).intersection(_origins(getattr(taken, "__spec__", None))):
        return None
    if not rest:
        # A directory without code is no module that somebody names.
        return spec if spec.has_location else None
    inner = rest.partition(".")[0]
    locations = spec.submodule_search_locations
    # `wsgi.application.demo` beside a file wsgi.py can only mean this package.
    if locations is None or importlib.machinery.PathFinder.find_spec(f"{top}.{inner}", list(locations)) is None:
        return None
    return spec


def _origins(spec: importlib.machinery.ModuleSpec | None) -> set[str]:
    if spec is None:
        return set()
    places = spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else [])
    return {os.path.realpath(place) for place in places}


def _import_by_file(name: str, spec: importlib.machinery.ModuleSpec) -> ModuleType:
    """Imports the module of `spec` under a name of its own, registered so that pickle finds its classes here."""
    alias = f"user_{name}"
    while (taken := sys.modules.get(alias)) is not None or importlib.util.find_spec(alias) is not None:
        if taken is not None and _origins(getattr(taken, "__spec__", None)) == _origins(spec):
            return taken
        alias += "_"
    locations = spec.submodule_search_locations
    if spec.has_location and spec.origin:
        renamed = importlib.util.spec_from_file_location(
            alias, spec.origin, submodule_search_locations=None if locations is None else list(locations)
        )
    else:
        renamed = importlib.machinery.ModuleSpec(alias, None, is_package=True)
        renamed.submodule_search_locations = list(locations or ())
    if renamed is None:  # a kind of file that nothing can import
        raise ModuleNotFoundError(name=name)
    module = importlib.util.module_from_spec(renamed)
    sys.modules[alias] = module
    if renamed.loader is not None:
        try:
            renamed.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(alias, None)
            raise
    return module


def _evaluate(module: ModuleType, expression: str) -> tuple[object, str]:
    """Gives what `expression` names in the module, and its name for a message."""
    names, arguments = _parse(expression)
    found: object = module
    for number, name in enumerate(names):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            if _ran(error):
                raise
            holder = _where(module) if number == 0 else f"{'.'.join(names[:number])!r} in {_where(module)}"
            raise LoadError(f"cannot import {name!r} from {holder}{nearest(name, _public(found))}") from None
    if arguments is None:
        return found, expression
    if not callable(found):
        kind = type(found).__name__
        raise LoadError(f"{'.'.join(names)!r} in {_where(module)} cannot be called: it is of type {kind}")
    try:
        return found(*arguments[0], **arguments[1]), expression
    except TypeError as error:
        if _ran(error):
            raise
        raise LoadError(f"{expression!r} in {_where(module)} cannot be called so: {error}") from None


def _parse(expression: str) -> tuple[list[str], tuple[list[object], dict[str, object]] | None]:
    """Splits `site.create("prod", debug=True)` into its names and, if it is a call, its arguments."""
    names = expression.split(".")
    if all(name.isidentifier() for name in names):
        return names, None
    import ast  # only a factory needs it

    mistake = f"{expression!r} is neither a name nor a factory called with literals, such as create('prod', debug=True)"
    try:
        call = ast.parse(expression, mode="eval").body
        if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
            raise LoadError(mistake)
        positional = [ast.literal_eval(argument) for argument in call.args]
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        names = ast.unparse(call.func).split(".")
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise LoadError(mistake) from None
    if not all(name.isidentifier() for name in names):
        raise LoadError(mistake)
    return names, (positional, keywords)


def _default(module: ModuleType) -> tuple[object, str]:
    """Gives the module's `app` or `application`."""
    for name in _DEFAULT_NAMES:
        # Beside a user's wsgi.py `application` may be the module of the framework, which is no application.
        if hasattr(module, name) and not isinstance(found := getattr(module, name), ModuleType):
            return found, name
    public = _public(module)
    factory = next((name for name in _FACTORY_NAMES if name in public), None)
    hint = f": did you mean '{module.__name__}:{factory}()'?" if factory else ": write MODULE:NAME"
    raise LoadError(f"{_where(module)} has neither 'app' nor 'application'{hint}")


def _not_found(missing: str, directory: Path) -> LoadError:
    """Says that the module `missing` is not there, and what may have been meant."""
    parent, _, name = missing.rpartition(".")
    holder = sys.modules.get(parent)
    if holder is None:
        there = nearest(name, _modules_in([str(directory)]))
        return LoadError(f"cannot find the module {missing!r} in {str(directory)!r}{there}")
    if not hasattr(holder, "__path__"):
        hint = f": did you mean '{parent}:{name}'?" if hasattr(holder, name) else ""
        return LoadError(f"cannot find the module {missing!r}, because {_where(holder)} is not a package{hint}")
    hint = nearest(name, _modules_in(holder.__path__), prefix=f"{parent}.")
    return LoadError(f"cannot find the module {missing!r} in the package {parent!r}{hint}")


def _own_error(target: str, error: BaseException, directory: Path) -> LoadError:
    """Says that the application's code raised; `error` keeps its traceback from the application's first frame on."""
    error.__traceback__ = _application_frames(error.__traceback__)
    message = f"cannot load {target!r}: it raised {_one_line(error)}{_place(error, directory)}"
    if isinstance(error, SyntaxError) and ("codec can't decode" in str(error) or "Non-UTF-8 code" in str(error)):
        message = f"cannot load {target!r}: {error.filename!r} is not UTF-8 text: save it as UTF-8"
    if (hiding := _hiding(error, directory)) is not None:
        message += f"; {str(hiding)!r} hides Python's own module {hiding.name.partition('.')[0]!r}: rename it"
    return LoadError(message)


def _one_line(error: BaseException) -> str:
    """The type and the message of an error, as much of it as one line has room for."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the application's own class, which cannot say what it is
        text = ""
    name = type(error).__name__
    return f"{name}: {text if len(text) <= 160 else text[:157] + '...'}" if text else name


def _place(error: BaseException, directory: Path) -> str:
    """Where the error was raised, by the application's innermost frame."""
    if isinstance(error, SyntaxError):
        return ""  # its message says so
    frames = list(_frames(error))
    own = [(file, line) for file, line in frames if file.startswith(str(directory) + os.sep)] or frames
    return f" ({_shown(own[-1][0])}, line {own[-1][1]})" if own else ""


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith(_IMPORT_MACHINERY):
            yield file, traceback.tb_lineno
        traceback = traceback.tb_next


def _hiding(error: BaseException, directory: Path) -> Path | None:
    """The application's file that stands before a module of the standard library, if the error is about that module."""
    name = ""
    if isinstance(error, ImportError):
        name = (error.name or "").partition(".")[0]
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__.partition(".")[0]
    if name not in sys.stdlib_module_names:
        return None
    own = (directory / f"{name}.py", directory / name / "__init__.py")
    return next((file if file.stem == name else file.parent for file in own if file.is_file()), None)


def _ran(error: BaseException) -> bool:
    """Whether code of the application ran before `error`."""
    return _application_frames(error.__traceback__) is not None


def _application_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_IMPORT_MACHINERY):
        traceback = traceback.tb_next
    return traceback


def _where(module: ModuleType) -> str:
    """Names a module by its file, as the user sees it."""
    path = getattr(module, "__file__", None)
    if not path:
        return f"the module {module.__name__!r}"
    return repr(_shown(path))


def _shown(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def _public(holder: object) -> list[str]:
    return [name for name in dir(holder) if not name.startswith("_")]


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _modules_in(directories: Iterable[str]) -> list[str]:
    """The names of the modules and packages in some directories."""
    suffixes = tuple(importlib.machinery.all_suffixes())
    names = []
    for entry in (entry for directory in directories for entry in _entries(Path(directory))):
        name = entry.name.partition(".")[0]
        is_module = entry.name.endswith(suffixes) or (entry.is_dir() and any(entry.glob("*.py")))
        if name and is_module and not name.startswith(("__", ".")):
            names.append(name)
    return names
