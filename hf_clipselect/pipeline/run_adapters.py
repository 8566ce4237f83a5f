"""The adapters of a run: trained, found in its folder, or given. The folder holds them afterwards."""

import hashlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ..adapters.adapter_files import AdapterFiles, adapter_files_id, fetch_adapter
from ..adapters.decision import Adaptation, adapt
from ..adapters.out_of_fold import out_of_fold_alignment
from ..adapters.peft_folder import load_into, save_adapters
from ..config.arguments import Arguments
from ..data import LabelledImages
from ..encoder.backbone import Backbone
from ..encoder.cache import digest, read_array, write_array
from ..encoder.feature_rows import FeatureRows
from ..errors import InputError
from ..results.run_folder import RunFolder
from ..runtime.processes import Processes
from ..scores.folds import fold_numbers
from .provenance import identity


logger = logging.getLogger(__name__)

# Raise it when the same settings would train other adapters: those in an existing folder are then not taken over.
_ADAPTATION_FORMAT = 3


@dataclass(frozen=True)
class RunAdapters:
    """What the adapters of a run depend on, and the folder that keeps them."""

    arguments: Arguments
    images: LabelledImages
    backbone: Backbone
    accelerator: Accelerator
    folder: RunFolder

    def train_or_find(
        self,
        features: tuple[FeatureRows, torch.Tensor],
        labels: np.ndarray,
        *,
        features_key: str,
        peft_config: Any,
        references: np.ndarray | None = None,
    ) -> tuple[nn.Module, Adaptation]:
        """Train, or take the adapters that an earlier run of the same settings left in the folder.

        Args:
            features (`tuple[FeatureRows, torch.Tensor]`): Image features `(N, H)` and text features `(T, C, H')`.
            labels (`np.ndarray` of shape `(N,)`, int64): Given labels in `[0, C)`.
            features_key (`str`): Key of the cached features.
            peft_config (`PeftConfig`, *optional*): Method other than the MLP adapters.
            references (`np.ndarray`, *optional*): As for `adapt`.

        Returns:
            `tuple[nn.Module, Adaptation]`: The model to score with, with adapters if they were kept; and what was
            decided.
        """
        arguments, folder = self.arguments.adaptation, self.folder
        key = self._key(features, labels, features_key, references)
        processes = Processes(self.accelerator)
        _check_same(processes, key)
        # What the main process sees decides: those that train would wait for ever for those that do not.
        earlier = processes.broadcast(folder.read_config().get("adaptation", {}))
        same = earlier.pop("key", None) == key and earlier.pop("files", None) == adapter_files_id(folder.adapter)
        if processes.broadcast(same):
            logger.info("The adaptation of the same settings is in %s: nothing to train.", folder.path)
            model, adaptation = self.backbone.model, Adaptation(**earlier)
            if adaptation.kept:
                model = load_into(model, fetch_adapter(folder.adapter))
        else:
            if self.accelerator.is_main_process:
                self._forget()
            self.accelerator.init_trackers("hf_clipselect")
            model, adaptation = adapt(
                self.backbone.model,
                *features,
                labels,
                arguments=arguments,
                seed=self.arguments.run.seed,
                accelerator=self.accelerator,
                references=references,
                peft_config=peft_config,
            )
            for tracker in self.accelerator.trackers:  # Accelerate's own end_training would also end the process group
                tracker.finish()
            if self.accelerator.is_main_process:
                self._keep(model, adaptation)
                self._remember(adaptation, key)
        self.accelerator.wait_for_everyone()
        return model, adaptation

    def out_of_fold(
        self,
        model: nn.Module,
        features: tuple[FeatureRows, torch.Tensor],
        labels: np.ndarray,
        adaptation: Adaptation,
        *,
        features_key: str,
        peft_config: Any,
        references: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of adapters that never saw the label they judge, computed or found in the folder.

        Args:
            model (`nn.Module`): With the kept adapters, which are taken off it.
            features, labels, features_key, peft_config, references: As for [`train_or_find`].
            adaptation ([`Adaptation`]): Of the kept adapters.

        Returns:
            `tuple[np.ndarray, np.ndarray, np.ndarray]`, each of shape `(N,)`: As `out_of_fold_alignment`, the same
            everywhere.
        """
        arguments, processes = self.arguments.adaptation, Processes(self.accelerator)
        folds = fold_numbers(labels, arguments.num_folds, seed=self.arguments.run.seed)
        key = {
            "adapters": self._key(features, labels, features_key, references),
            "folds": arguments.num_folds,
            "num_steps": adaptation.num_steps,
        }
        path = self.folder.features / "out_of_fold.safetensors"
        # Trained together: what the main process finds decides for all.
        found = processes.broadcast(read_array(path, key))
        if found is None:
            self.accelerator.init_trackers("hf_clipselect")
            found = np.stack(
                out_of_fold_alignment(
                    model.unload(),
                    *features,
                    labels,
                    folds,
                    num_steps=adaptation.num_steps,
                    arguments=arguments,
                    seed=self.arguments.run.seed,
                    accelerator=self.accelerator,
                    references=references,
                    peft_config=peft_config,
                )
            )
            for tracker in self.accelerator.trackers:
                tracker.finish()
            if self.accelerator.is_main_process:
                write_array(path, key, found)
        predicted, sas, margin = found.astype(np.float32)
        return predicted.astype(np.int64), sas, margin

    def take(self, adapter: AdapterFiles) -> tuple[nn.Module, Adaptation]:
        """Put given adapters on the model: nothing is trained, and what the folder held before goes."""
        _check_same(Processes(self.accelerator), adapter.files_id)
        adaptation = Adaptation.of_given(adapter, mode=self.arguments.adaptation.adaptation)
        logger.info(adaptation.reason)
        if self.accelerator.is_main_process:
            if adapter_files_id(self.folder.adapter) != adapter.files_id:
                self._forget()
                with self.folder.replacing(self.folder.adapter) as temporary:
                    adapter.write_to(temporary)
            self._remember(adaptation, digest({"format": _ADAPTATION_FORMAT, "adapter": adapter.files_id}))
        self.accelerator.wait_for_everyone()
        return load_into(self.backbone.model, adapter), adaptation

    def _key(
        self,
        features: tuple[FeatureRows, torch.Tensor],
        labels: np.ndarray,
        features_key: str,
        references: np.ndarray | None,
    ) -> str:
        """Everything that decides the adapters."""
        # What a file holds counts, not where it lies; and folds leave the kept adapters as they are.
        elsewhere = ("adapter_name_or_path", "peft_config", "num_folds")
        peft_config = self.arguments.adaptation.peft_config
        return digest(
            {
                "format": _ADAPTATION_FORMAT,
                "features": features_key,
                "text_features": hashlib.sha256(features[1].contiguous().numpy()).hexdigest(),
                "references": None if references is None else hashlib.sha256(references).hexdigest(),
                "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
                "seed": self.arguments.run.seed,
                "arguments": {k: v for k, v in asdict(self.arguments.adaptation).items() if k not in elsewhere},
                "peft_config": peft_config and Path(peft_config).read_text(encoding="utf-8"),
            }
        )

    def _forget(self) -> None:
        """The record goes before the adapters it speaks of: a killed run leaves none that a later one would trust."""
        self.folder.write_config({"identity": identity(self.images, self.backbone)})

    def _remember(self, adaptation: Adaptation, key: str) -> None:
        record = {**adaptation.to_dict(), "key": key, "files": adapter_files_id(self.folder.adapter)}
        self.folder.write_config({"identity": identity(self.images, self.backbone), "adaptation": record})

    def _keep(self, model: nn.Module, adaptation: Adaptation) -> None:
        if not adaptation.kept:
            self.folder.remove_adapter()
            return
        with self.folder.replacing(self.folder.adapter) as temporary:
            save_adapters(model, temporary, base_model=self.backbone.name, base_revision=self.backbone.revision)


def _check_same(processes: Processes, key: str) -> None:
    if len(set(processes.gather(key))) > 1:
        raise InputError(
            "The processes of this run do not see the same prompts, PEFT config or adapters. On several machines, "
            "give every one the same files."
        )
