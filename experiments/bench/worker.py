"""A benchmark's subprocess: `worker MODULE:FUNCTION SETTING` answers one JSON line a row."""

import importlib
import json
import sys

from experiments.bench.common import answers


def main(name: str, setting: str) -> None:
    """Prints the rows of the named function for a setting in JSON."""
    module, _, function = name.partition(":")
    for row in answers(getattr(importlib.import_module(module), function), json.loads(setting)):
        print(json.dumps(row), flush=True)


main(*sys.argv[1:])
