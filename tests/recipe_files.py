"""The scripts of recipes/ as modules, for tests of their functions."""

import importlib.util
import sys
from functools import cache
from types import ModuleType

from conftest import REPOSITORY


RECIPES = REPOSITORY / "recipes"


@cache
def load_recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name.removesuffix('.py')}", RECIPES / name)
    sys.modules[spec.name] = recipe = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(recipe)
    return recipe
