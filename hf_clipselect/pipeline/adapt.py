"""The second stage: adapters are trained, found in the run's folder, or given."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from accelerate import Accelerator
from torch import nn

from ..adapters.adapter_files import AdapterFiles, adapter_files_id, fetch_adapter
from ..adapters.decision import Adaptation, PeftConfig, PeftModel
from ..adapters.decision import adapt as train_adapters
from ..adapters.out_of_fold import out_of_fold_alignment
from ..adapters.peft_folder import load_into, save_adapters
from ..adapters.training import Schedule
from ..encoder.cache import digest, read_array, write_array
from ..errors import InputError
from ..runtime.processes import Processes
from ..scores.folds import fold_numbers
from .encode import EncodedRows
from .plain_clip import Alignment, PlainClip, align_with_plain_clip
from .prepared import AnyPrepared, EmbeddingInputs, ImageInputs
from .provenance import identity


logger = logging.getLogger(__name__)

# Raise it when the same settings would train other adapters: those in an existing folder are then not taken over.
_ADAPTATION_FORMAT = 3

Result = TypeVar("Result")


@dataclass(frozen=True)
class Adapted:
    """The model to score with, with adapters if these were kept or given, and what plain CLIP makes of the rows."""

    plain: PlainClip
    model: nn.Module
    adaptation: Adaptation


def adapt(prepared: AnyPrepared, rows: EncodedRows) -> Adapted:
    """Train adapters, find those of the same settings in the folder, take the given ones, or leave CLIP as it is.

    Raises `InputError` where the processes of the run do not see the same files.
    """
    plain = align_with_plain_clip(prepared, rows)  # adapters would take the place of the model's heads
    inputs = prepared.inputs
    if isinstance(inputs, ImageInputs):
        if inputs.adapter is None:
            model, adaptation = _train_or_find(prepared, inputs, rows)
        else:
            model, adaptation = _take(prepared, inputs, inputs.adapter)
    elif inputs.accelerator is None:
        model, adaptation = inputs.model, Adaptation.off()
    else:
        model, adaptation = _train(prepared, rows, inputs.accelerator)
    return Adapted(plain, model, adaptation)


def align_out_of_fold(prepared: AnyPrepared, rows: EncodedRows, model: PeftModel, *, num_steps: int) -> Alignment:
    """What `align_rows` gives, by adapters trained without the row's fold: computed, or found in the folder.

    `model` holds the kept adapters, which are taken off it; `num_steps` is how long they were trained.
    """
    inputs, labels = prepared.inputs, rows.targets.labels
    num_folds = prepared.arguments.adaptation.num_folds

    def compute() -> Alignment:
        return out_of_fold_alignment(
            model.unload(),
            *rows.features.both,
            labels,
            fold_numbers(labels, num_folds, seed=prepared.seed),
            num_steps=num_steps,
            arguments=prepared.arguments.adaptation,
            seed=prepared.seed,
            accelerator=inputs.accelerator,
            references=rows.targets.references,
            peft_config=_peft_config(inputs),
        )

    if not isinstance(inputs, ImageInputs):
        return compute()
    key = {"adapters": _key(prepared, rows), "folds": num_folds, "num_steps": num_steps}
    path, processes = inputs.folder.features / "out_of_fold.safetensors", prepared.processes
    # Trained together: what the main process finds decides for all.
    found = processes.broadcast(read_array(path, key))
    if found is None:
        found = np.stack(_tracked(inputs.accelerator, compute))
        if processes.index == 0:
            write_array(path, key, found)
    predicted, sas, margin = found.astype(np.float32)
    return predicted.astype(np.int64), sas, margin


def _train(prepared: AnyPrepared, rows: EncodedRows, accelerator: Accelerator) -> tuple[nn.Module, Adaptation]:
    return train_adapters(
        prepared.inputs.model,
        *rows.features.both,
        rows.targets.labels,
        arguments=prepared.arguments.adaptation,
        seed=prepared.seed,
        accelerator=accelerator,
        references=rows.targets.references,
        peft_config=_peft_config(prepared.inputs),
    )


def _peft_config(inputs: ImageInputs | EmbeddingInputs) -> PeftConfig | None:
    return inputs.peft_config if isinstance(inputs, ImageInputs) else None


def _train_or_find(prepared: AnyPrepared, inputs: ImageInputs, rows: EncodedRows) -> tuple[nn.Module, Adaptation]:
    """Train, or take the adapters that an earlier run of the same settings left in the folder."""
    key, processes, folder, model = _key(prepared, rows), prepared.processes, inputs.folder, inputs.model
    _check_same(processes, key)
    # What the main process sees decides: those that train would wait for ever for those that do not.
    earlier = processes.broadcast(folder.read_config().get("adaptation", {}))
    same = earlier.pop("key", None) == key and earlier.pop("files", None) == adapter_files_id(folder.adapter)
    if processes.broadcast(same):
        logger.info("The adaptation of the same settings is in %s: nothing to train.", folder.path)
        adaptation = Adaptation(**earlier)
        if adaptation.kept:
            model = load_into(model, fetch_adapter(folder.adapter))
    else:
        if processes.index == 0:
            _forget(inputs)
        model, adaptation = _tracked(inputs.accelerator, lambda: _train(prepared, rows, inputs.accelerator))
        if processes.index == 0:
            _keep(inputs, model)
            _remember(inputs, adaptation, key)
    processes.wait()
    return model, adaptation


def _take(prepared: AnyPrepared, inputs: ImageInputs, adapter: AdapterFiles) -> tuple[nn.Module, Adaptation]:
    """Put given adapters on the model: nothing is trained, and what the folder held before goes."""
    processes, folder = prepared.processes, inputs.folder
    _check_same(processes, adapter.files_id)
    adaptation = Adaptation.of_given(adapter, mode=prepared.arguments.adaptation.adaptation)
    logger.info(adaptation.reason)
    if processes.index == 0:
        if adapter_files_id(folder.adapter) != adapter.files_id:
            _forget(inputs)
            with folder.replacing(folder.adapter) as temporary:
                adapter.write_to(temporary)
        _remember(inputs, adaptation, digest({"format": _ADAPTATION_FORMAT, "adapter": adapter.files_id}))
    processes.wait()
    return load_into(inputs.model, adapter), adaptation


def _tracked(accelerator: Accelerator, train: Callable[[], Result]) -> Result:
    """Run a training, of which the run's trackers are told."""
    accelerator.init_trackers("hf_clipselect")
    result = train()
    for tracker in accelerator.trackers:  # Accelerate's own end_training would also end the process group
        tracker.finish()
    return result


def _key(prepared: AnyPrepared, rows: EncodedRows) -> str:
    """Everything that decides the adapters."""
    # What a file holds counts, not where it lies; folds leave the kept adapters as they are; and the limit of steps
    # counts where there are more, so that a run finds what an earlier version trained as it would.
    elsewhere = ("adapter_name_or_path", "peft_config", "num_folds", "max_train_steps")
    arguments, references = prepared.arguments.adaptation, rows.targets.references
    peft_config = arguments.peft_config
    schedule = Schedule.for_rows(len(rows.targets.labels), arguments)
    return digest(
        {
            "format": _ADAPTATION_FORMAT,
            "features": rows.features.key,
            "text_features": hashlib.sha256(rows.features.texts.contiguous().numpy().data).hexdigest(),
            "references": None if references is None else hashlib.sha256(references.data).hexdigest(),
            "labels": hashlib.sha256(rows.targets.labels.data).hexdigest(),
            "seed": prepared.seed,
            "arguments": {name: value for name, value in asdict(arguments).items() if name not in elsewhere},
            "peft_config": peft_config and Path(peft_config).read_text(encoding="utf-8"),
            **({"fewer_steps": schedule.num_steps} if schedule.rate_factor > 1 else {}),
        }
    )


def _forget(inputs: ImageInputs) -> None:
    """Remove the record before the adapters change: a later run trusts only adapters that have one."""
    inputs.folder.write_config({"identity": identity(inputs.images, inputs.backbone)})


def _remember(inputs: ImageInputs, adaptation: Adaptation, key: str) -> None:
    record = {**adaptation.to_dict(), "key": key, "files": adapter_files_id(inputs.folder.adapter)}
    inputs.folder.write_config({"identity": identity(inputs.images, inputs.backbone), "adaptation": record})


def _keep(inputs: ImageInputs, model: nn.Module) -> None:
    folder, backbone = inputs.folder, inputs.backbone
    if not isinstance(model, PeftModel):
        folder.remove_adapter()
        return
    with folder.replacing(folder.adapter) as temporary:
        save_adapters(model, temporary, base_model=backbone.name, base_revision=backbone.revision)


def _check_same(processes: Processes, key: str) -> None:
    if len(set(processes.gather(key))) > 1:
        raise InputError(
            "The processes of this run do not see the same prompts, PEFT config or adapters. On several machines, "
            "give every one the same files."
        )
