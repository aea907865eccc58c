"""The settings of a stack: read once, checked as a whole, frozen.

`Settings.load()` reads them in a Pulumi program, `Settings.from_stack_file(path)` from a file; both raise one
`SettingsError` that lists every fault. `model` holds the fields with their defaults (made of `kinds`), `rules` what
must hold between them; `sources` finds raw values, `reader` and `reading` make Settings of them, `faults` is
the error, and `schema` what editors and the reference page are told.
"""

from __future__ import annotations

from .faults import Fault, SettingsError
from .model import Advanced, ExistingNetwork, Model, Window
from .reading import Settings, StackFileCheck, check_stack_file

__all__ = [
    "Advanced",
    "ExistingNetwork",
    "Fault",
    "Model",
    "Settings",
    "SettingsError",
    "StackFileCheck",
    "Window",
    "check_stack_file",
]
