"""What a run says of itself in config.yaml, report and cards, and a recipe in the results that it writes."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..adapters.decision import Adaptation
from ..config.arguments import Arguments
from ..data import LabelledImages
from ..data.image_stream import ImageStream
from ..encoder.backbone import Backbone
from ..runtime.hub_ids import lasting_name
from ..runtime.redaction import hide_secrets, names_of_options
from ..selection import Objective


_PACKAGES = ("hf_clipselect", "torch", "transformers", "datasets", "accelerate", "peft", "huggingface_hub", "numpy")

# Flags that may name something on this machine: as absolute paths they are known, and hidden, from any directory.
_PLACES = (
    "dataset_name",
    "reference_dataset_name",
    "model_name_or_path",
    "adapter_name_or_path",
    "class_names_file",
    "peft_config",
    "decisions",
)


def identity(images: LabelledImages, backbone: Backbone) -> dict[str, Any]:
    """What makes a repeated run the same run; everything else may change from one run in a folder to the next."""
    return {
        "dataset": images.source.fingerprint,
        "rows": len(images.dataset),
        **identity_before_reading(images, backbone),
    }


def identity_before_reading(images: LabelledImages | ImageStream, backbone: Backbone) -> dict[str, Any]:
    """The part of [`identity`] that is known before the rows of a stream have been read."""
    model = backbone.revision or backbone.weights_sha256
    if backbone.weights.revision is not None:
        model = f"{model} with the weights of {backbone.weights.revision}"
    return {"image_column": images.image_column, "label_column": images.label_column, "model": model}


def describe_run(
    arguments: Arguments,
    objective: Objective,
    images: LabelledImages,
    backbone: Backbone,
    batch_size: int,
    adaptation: Adaptation,
    captions: dict[str, int] | None,
) -> dict[str, Any]:
    """Source, model, knobs, adaptation, arguments and versions, as plain JSON types.

    `arguments` are the flags, which `--config` takes back; `objective` holds the knobs as they were resolved;
    `captions`, for image-text pairs, how many captions, references and clusters there are.
    """
    given = {**arguments.to_dict(), "objective": objective.name}
    given |= {name: lasting_name(given[name]) for name in _PLACES if given[name]}
    given |= _without_secrets(arguments)
    return {
        # Without the knobs that the preset filled: with another objective, `--config` would take them for set.
        "arguments": {name: value for name, value in given.items() if value is not None},
        "objective": objective.to_dict(),
        "source": images.source.to_dict(),
        "model": {
            **backbone.describe(),
            "precision": backbone.precision,
            "batch_size": batch_size,
            "embed_dim": backbone.embed_dim,
            "prompt_template": [] if captions else list(arguments.model.prompt_template),
        },
        "captions": captions,
        **({} if images.decided is None else {"decisions": images.decided.to_dict()}),
        "adaptation": adaptation.to_dict(),
        "seed": arguments.run.seed,
        "versions": {"python": platform.python_version(), **_versions()},
    }


@cache
def _versions() -> dict[str, str]:
    """Read once: they are those of packages that this process has imported."""
    return {package: version(package) for package in _PACKAGES}


def _without_secrets(arguments: Arguments) -> dict[str, Any]:
    """What is kept of places that only some may read: the names of the options, and URLs without their credentials."""
    data = arguments.data
    kept: dict[str, Any] = {}
    if data.storage_options is not None:
        kept["storage_options"] = names_of_options(data.storage_options)
    for name in (
        "dataset_name",
        "reference_dataset_name",
        "data_dir",
    ):  # beside the name of a reader the latter may be the URL
        if "://" in (getattr(data, name) or ""):
            kept[name] = hide_secrets(getattr(data, name))
    if data.data_files:
        # Beside a dataset they are names in it.
        place = str if data.dataset_name else (lambda name: os.path.abspath(os.path.expanduser(name)))
        kept["data_files"] = [hide_secrets(name) if "://" in name else place(name) for name in data.data_files]
    return kept


def recipe_origin(script: str | Path, *packages: str) -> str:
    """[`origin`] of the figures that a recipe writes; the packages are those that decide the figures."""
    script = Path(script).resolve()
    return origin(["python", f"recipes/{script.name}", *sys.argv[1:]], script.parent, *packages)


def origin(command: Sequence[str], checkout: Path, *packages: str) -> str:
    """The command and the versions behind some figures, as two paragraphs of Markdown for the file that keeps them.

    `checkout` is a folder of the checkout whose commit is told, if it is one.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"`{shlex.join(command)}`\n\nhf_clipselect {version('hf_clipselect')}{_commit(checkout)}; {versions}."


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # no git
        return ""
    return f", commit {done.stdout.strip()}" if done.returncode == 0 else ""
