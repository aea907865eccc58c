"""Loads a function's package from its zip into modules of its own, as if each execution environment were a process.

Modules live in `sys.modules` under a private prefix (`function_3.fleet_control.aws.controller`), so that two functions
made from the same zip, and the checkout's own copy of the package, never share state. Absolute imports of the package's
own names are redirected to the prefix; everything else is the interpreter's.
"""

from __future__ import annotations

import builtins
import importlib
import io
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import count
from types import CodeType, ModuleType
from typing import Any

Files = Mapping[str, bytes]
_numbers = count(1)


class CodeError(Exception):
    """The package cannot be loaded. `kind` is the error type that Lambda reports."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_zip(data: bytes) -> dict[str, bytes]:
    """The files of a deployment package by path. Raises `CodeError` for what is no zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except zipfile.BadZipFile as error:
        raise CodeError("InvalidZipFile", "Could not unzip uploaded file. Please check your file.") from error


def has_module(files: Files, module: str) -> bool:
    path = module.replace(".", "/")
    return f"{path}.py" in files or f"{path}/__init__.py" in files


@lru_cache(maxsize=512)
def _compiled(source: bytes, filename: str) -> CodeType:
    return compile(source, filename, "exec", dont_inherit=True)


class Package:
    """One loaded copy of a package. `close()` forgets its modules."""

    def __init__(self, files: Files, print_line: Callable[[str], None]) -> None:
        self.prefix = f"function_{next(_numbers)}"
        self.files = files
        self._own = {path.split("/")[0].removesuffix(".py") for path in files}
        self._builtins = {**vars(builtins), "__import__": self._import, "print": _printer(print_line)}
        _finder().packages[self.prefix] = self

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.prefix}.{name}")

    def close(self) -> None:
        _finder().packages.pop(self.prefix, None)
        for name in [name for name in sys.modules if name.split(".")[0] == self.prefix]:
            del sys.modules[name]

    def spec(self, fullname: str) -> ModuleSpec | None:
        path = fullname.removeprefix(self.prefix).lstrip(".").replace(".", "/")
        for file, is_package in ((f"{path}/__init__.py", True), (f"{path}.py", False)):
            if file in self.files:
                return ModuleSpec(fullname, _PackageLoader(self, file), origin=file, is_package=is_package)
        if not path or any(file.startswith(f"{path}/") for file in self.files):
            return ModuleSpec(fullname, _PackageLoader(self, None), is_package=True)
        return None

    def run(self, module: ModuleType, file: str) -> None:
        module.__dict__["__builtins__"] = self._builtins
        module.__file__ = f"/var/task/{file}"
        exec(_compiled(self.files[file], module.__file__), module.__dict__)  # noqa: S102 - the deployed code, as AWS runs it

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        top = name.split(".", maxsplit=1)[0]
        if level or top not in self._own:
            return builtins.__import__(name, globals, locals, fromlist, level)
        found = builtins.__import__(f"{self.prefix}.{name}", globals, locals, fromlist, 0)
        return found if fromlist else sys.modules[f"{self.prefix}.{top}"]


class _PackageLoader(Loader):
    def __init__(self, package: Package, file: str | None) -> None:
        self.package = package
        self.file = file

    def exec_module(self, module: ModuleType) -> None:
        if self.file is not None:
            self.package.run(module, self.file)


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self.packages: dict[str, Package] = {}

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        package = self.packages.get(fullname.split(".", maxsplit=1)[0])
        return package.spec(fullname) if package else None


@lru_cache(maxsize=1)
def _finder() -> _Finder:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    return finder


def _printer(print_line: Callable[[str], None]) -> Callable[..., None]:
    def capture(
        *values: object, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
    ) -> None:
        if file is None or file in (sys.stdout, sys.stderr):
            print_line((" " if sep is None else sep).join(map(str, values)))
        else:
            builtins.print(*values, sep=sep, end=end, file=file, flush=flush)

    return capture
