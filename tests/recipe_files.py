"""The scripts of recipes/ as modules, for tests of their functions."""

import importlib.util
import os
import sys
from functools import cache
from types import ModuleType

import pytest
from conftest import REPOSITORY


RECIPES = REPOSITORY / "recipes"


@cache
def load_recipe(name: str) -> ModuleType:
    """Import a recipe. What it sets for processes of its own would reach those of other tests, and is taken back."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name.removesuffix('.py')}", RECIPES / name)
    sys.modules[spec.name] = recipe = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path.copy())
        patch.setattr(os, "environ", os.environ.copy())
        spec.loader.exec_module(recipe)
    return recipe
