"""Finds the application that `MODULE:APP` names.

    hello:app                    an attribute
    shop.web:site.application    an attribute of an attribute
    shop.web:create("prod")      a factory, called with literals
    hello                        `app`, or else `application`
    path/to/hello.py:app         a file

The module is imported by `importlib.import_module`, with the application's directory first on `sys.path`. Two cases
differ:

- A file wsgi.py, which many projects have, shares the name of this package. `wsgi_server.user_module` makes both
  importable: `import wsgi` gives the user's module, here and in the processes of `multiprocessing`, and
  `import wsgi.server` a module of this package.
- A module with the name of one that is imported already, such as one of the standard library, is imported from its
  file under the name `user_NAME`. Other processes do not find that name.
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
from wsgi.errors import ConfigError, LoadError
from wsgi.suggest import did_you_mean
from wsgi_server import user_module

__all__ = ["explained", "load"]

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
    """Imports the module that `target` names and returns the application in it.

    Parameters:
        target: `MODULE`, `MODULE:ATTRIBUTE`, `MODULE:FACTORY(LITERALS)` or the same with a path to a file as MODULE.
        app_dir: the directory of the application's modules; it becomes the first entry of `sys.path`.

    Raises:
        LoadError: there is nothing of that name, or the application's code raised; then `__cause__` is its exception.
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
        if isinstance(error, LoadError) and not _application_ran(error):
            raise
        raise _application_error(target, error, directory) from error
    if not callable(found):
        raise LoadError(f"{shown!r} in {_label(module)} is not callable: it is of type {type(found).__name__}")
    return found


def explained(error: Exception) -> str:
    """Returns why nothing is served: one line, below the traceback of the site's own error."""
    if not isinstance(error, (ConfigError, LoadError)) or error.__cause__ is None:
        return f"wsgi: {error}"
    # Imported here, because most starts need no traceback.
    import traceback

    cause = error.__cause__
    return "".join([*traceback.format_exception(type(cause), cause, cause.__traceback__), f"wsgi: {error}"])


def _module_of_file(path: Path) -> tuple[Path, str]:
    """Returns the directory to import from and the module's name, with dots if the file is in a package."""
    if not path.is_file():
        beside = [entry.name for entry in _entries(path.parent) if entry.suffix == ".py"]
        raise LoadError(f"there is no file {str(path)!r}{did_you_mean(path.name, beside)}")
    names = [] if path.name == "__init__.py" else [path.stem]
    directory = path.parent
    while (directory / "__init__.py").is_file():
        names.insert(0, directory.name)
        directory = directory.parent
    dotted = next((name for name in names if "." in name), None)
    if dotted is not None:
        raise LoadError(f"{str(path)!r} cannot be imported: the name of a module has no dots, but {dotted!r} has")
    return directory, ".".join(names)


def _import(name: str, directory: Path) -> ModuleType:
    """Imports a module by its dotted name with `directory` first on `sys.path`."""
    entry = str(directory)
    position = int(sys.path[:1] == [user_module.DIRECTORY])
    if sys.path[position : position + 1] != [entry]:
        sys.path.insert(position, entry)
    importlib.invalidate_caches()
    top, _, rest = name.partition(".")
    own = _spec_of_taken_name(top, rest, entry)
    if own is not None and top == wsgi.__name__:
        _install_user_module(own)
    elif own is not None:
        alias = _import_by_file(top, own).__name__
        name = f"{alias}.{rest}" if rest else alias
    try:
        return importlib.import_module(name)
    except BaseException as error:
        user_module.remove()
        if not isinstance(error, ModuleNotFoundError) or _application_ran(error) or error.name is None:
            raise
        raise _not_found(error.name, directory) from None


def _install_user_module(spec: importlib.machinery.ModuleSpec) -> None:
    """Makes `import wsgi` give the user's module or package of that name."""
    locations = list(spec.submodule_search_locations or ())
    taken = user_module.clashes(locations)
    if taken:
        raise LoadError(
            f"the package {locations[0]!r} has the name of the server's package, and both have a module {taken[0]!r}: "
            "rename the directory"
        )
    user_module.install()


def _spec_of_taken_name(top: str, rest: str, entry: str) -> importlib.machinery.ModuleSpec | None:
    """The spec of the application's module `top` if another module of that name is imported already, else None."""
    taken = sys.modules.get(top)
    spec = importlib.machinery.PathFinder.find_spec(top, [entry]) if taken is not None else None
    if taken is None or spec is None or _origins(spec).intersection(_origins(getattr(taken, "__spec__", None))):
        return None
    if not rest:
        # A directory without code is not what a target names.
        return spec if spec.has_location else None
    inner = rest.partition(".")[0]
    locations = spec.submodule_search_locations
    # Next to a file wsgi.py, `wsgi.application.demo` means this package.
    if locations is None or importlib.machinery.PathFinder.find_spec(f"{top}.{inner}", list(locations)) is None:
        return None
    return spec


def _origins(spec: importlib.machinery.ModuleSpec | None) -> set[str]:
    if spec is None:
        return set()
    places = spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else [])
    return {os.path.realpath(place) for place in places}


def _import_by_file(name: str, spec: importlib.machinery.ModuleSpec) -> ModuleType:
    """Imports the module of `spec` under a name of its own, in `sys.modules` so that pickle finds its classes."""
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
    if renamed is None:  # a file type without a loader
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
    """Returns the object that `expression` names in the module, and its name for messages."""
    names, arguments = _parse(expression)
    found: object = module
    for number, name in enumerate(names):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            if _application_ran(error):
                raise
            holder = _label(module) if number == 0 else f"{'.'.join(names[:number])!r} in {_label(module)}"
            raise LoadError(f"cannot import {name!r} from {holder}{did_you_mean(name, _public(found))}") from None
    if arguments is None:
        return found, expression
    if not callable(found):
        kind = type(found).__name__
        raise LoadError(f"{'.'.join(names)!r} in {_label(module)} cannot be called: it is of type {kind}")
    try:
        return found(*arguments[0], **arguments[1]), expression
    except TypeError as error:
        if _application_ran(error):
            raise
        raise LoadError(f"{expression!r} in {_label(module)} cannot be called with these arguments: {error}") from None


def _parse(expression: str) -> tuple[list[str], tuple[list[object], dict[str, object]] | None]:
    """Splits `site.create("prod", debug=True)` into its names and, for a call, its arguments."""
    names = expression.split(".")
    if all(name.isidentifier() for name in names):
        return names, None
    import ast  # only a factory needs it

    mistake = f"{expression!r} is neither a name nor a call with literals, such as create('prod', debug=True)"
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
    """Returns the module's `app` or `application`."""
    for name in _DEFAULT_NAMES:
        # With a user's wsgi.py, `application` may be the framework's module.
        if hasattr(module, name) and not isinstance(found := getattr(module, name), ModuleType):
            return found, name
    public = _public(module)
    factory = next((name for name in _FACTORY_NAMES if name in public), None)
    hint = f": did you mean '{module.__name__}:{factory}()'?" if factory else ": write MODULE:NAME"
    raise LoadError(f"{_label(module)} has neither 'app' nor 'application'{hint}")


def _not_found(missing: str, directory: Path) -> LoadError:
    """The error for a missing module, with a suggestion."""
    parent, _, name = missing.rpartition(".")
    holder = sys.modules.get(parent)
    if holder is None:
        there = did_you_mean(name, _modules_in([str(directory)]))
        return LoadError(f"cannot find the module {missing!r} in {str(directory)!r}{there}")
    if not hasattr(holder, "__path__"):
        hint = f": did you mean '{parent}:{name}'?" if hasattr(holder, name) else ""
        return LoadError(f"cannot find the module {missing!r}, because {_label(holder)} is not a package{hint}")
    hint = did_you_mean(name, _modules_in(holder.__path__), prefix=f"{parent}.")
    return LoadError(f"cannot find the module {missing!r} in the package {parent!r}{hint}")


def _application_error(target: str, error: BaseException, directory: Path) -> LoadError:
    """The error for an exception of the application; cuts its traceback to the application's frames."""
    error.__traceback__ = _application_frames(error.__traceback__)
    message = f"cannot load {target!r}: it raised {_one_line(error)}{_location(error, directory)}"
    if isinstance(error, SyntaxError) and ("codec can't decode" in str(error) or "Non-UTF-8 code" in str(error)):
        message = f"cannot load {target!r}: {error.filename!r} is not UTF-8 text: save it as UTF-8"
    if (shadowing := _shadowing_file(error, directory)) is not None:
        name = shadowing.name.partition(".")[0]
        message += f"; {str(shadowing)!r} shadows the standard library's module {name!r}: rename it"
    return LoadError(message)


def _one_line(error: BaseException) -> str:
    """The type and the message of an exception, shortened to fit one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a `__str__` of the application that raises
        text = ""
    name = type(error).__name__
    return f"{name}: {text if len(text) <= 160 else text[:157] + '...'}" if text else name


def _location(error: BaseException, directory: Path) -> str:
    """Where the exception was raised: the application's innermost frame."""
    if isinstance(error, SyntaxError):
        return ""  # its message has the location
    frames = list(_frames(error))
    own = [(file, line) for file, line in frames if file.startswith(str(directory) + os.sep)] or frames
    return f" ({_relative(own[-1][0])}, line {own[-1][1]})" if own else ""


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith(_IMPORT_MACHINERY):
            yield file, traceback.tb_lineno
        traceback = traceback.tb_next


def _shadowing_file(error: BaseException, directory: Path) -> Path | None:
    """The application's file that shadows a module of the standard library, if the error concerns that module."""
    name = ""
    if isinstance(error, ImportError):
        name = (error.name or "").partition(".")[0]
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__.partition(".")[0]
    if name not in sys.stdlib_module_names:
        return None
    own = (directory / f"{name}.py", directory / name / "__init__.py")
    return next((file if file.stem == name else file.parent for file in own if file.is_file()), None)


def _application_ran(error: BaseException) -> bool:
    """Whether application code ran before `error`."""
    return _application_frames(error.__traceback__) is not None


def _application_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_IMPORT_MACHINERY):
        traceback = traceback.tb_next
    return traceback


def _label(module: ModuleType) -> str:
    """Names a module by its file, relative to the working directory."""
    path = getattr(module, "__file__", None)
    if not path:
        return f"the module {module.__name__!r}"
    return repr(_relative(path))


def _relative(path: str) -> str:
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
