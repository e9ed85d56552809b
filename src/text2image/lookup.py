"""What is looked up by its name: a module of a room, imported when it is asked for and not before.

So a source, a model or a metric is added as one module, and a stage depends on the modules that it names and no others.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

from text2image.config import nearest
from text2image.errors import UserError


def lookup(room: str, name: object, needs: str, where: str) -> ModuleType:
    """The module `name` of the room `room` (`sources`, `models`, ...), which must define `needs`; `where` says in a message
    who asks.

    Raises UserError, with the nearest name that there is, for any other name.
    """
    package = import_module(f"text2image.{room}")
    if isinstance(name, str) and name in {module.name for module in pkgutil.iter_modules(package.__path__)}:
        found = import_module(f"text2image.{room}.{name}")
        if hasattr(found, needs):
            return found
    known = names(room, needs)
    raise UserError(f"{where} is {name!r}; it takes one of {', '.join(known)}: {nearest(str(name), known)}")


def names(room: str, needs: str) -> list[str]:
    """The modules of a room that define `needs`; imports all of them."""
    package = import_module(f"text2image.{room}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if hasattr(import_module(f"text2image.{room}.{name}"), needs))
