"""Where pickled transitions of earlier versions find their classes: under the old names of modules.

Unpickling imports `slowpoints._transition.models.calling`, say, and so this module first; from then
on such names lead to where the classes are now. Nothing else needs it.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_RENAMED = {
    "iterates": "iterate",
    "models": "frameworks",
    "models.torch_export": "torch_graphs.snapshot",
    "models.torch_program": "torch_graphs.program",
}

_RENAMED_CLASSES = {
    "models.torch_program": ("torch_graphs.program", {"Program": "TorchProgram"}),
    "program": ("comparable", {"Identity": "Identity"}),
}


class _OldNames(MetaPathFinder, Loader):
    def __init__(self):
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith(f"{__name__}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        old = spec.name.removeprefix(f"{__name__}.")
        room, _, file = old.rpartition(".")
        now = _RENAMED.get(old) or ".".join(filter(None, (_RENAMED.get(room, room), file)))
        module = import_module(f"slowpoints._network.{now}")
        self._specs[spec.name] = module.__spec__
        where, classes = _RENAMED_CLASSES.get(old, ("", {}))
        for before, after in classes.items():
            setattr(module, before, getattr(import_module(f"slowpoints._network.{where}"), after))
        return module

    def exec_module(self, module: ModuleType) -> None:
        # What imports it has put a spec of its own in the place.
        assert module.__spec__ is not None
        module.__spec__ = self._specs[module.__spec__.name]


__path__: list[str] = []  # it has modules in it
sys.meta_path.insert(0, _OldNames())  # before one that finds a file in the new room
