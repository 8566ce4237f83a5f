"""`select_dataset`: selection from a dataset of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, ProcessorMixin

from ..config.arguments import (
    DEFAULT_MODEL,
    AdaptationArguments,
    Arguments,
    DataArguments,
    ModelArguments,
    RunArguments,
    SelectionArguments,
    with_defaults,
)
from ..config.python_calls import python_door
from ..data.decisions import Decision
from ..data.row_facts import Listing
from ..encoder.passed_model import check_passed
from ..errors import InputError
from ..results.selection_result import SelectionResult
from ..runtime.caller_state import own_settings
from ..selection import check_sizes, is_count
from .prepare_dataset import Passed
from .run import run_selection


@python_door()
@own_settings()
def select_dataset(
    dataset: Dataset | IterableDataset,
    *,
    model_name_or_path: str | Path = DEFAULT_MODEL,
    model: PreTrainedModel | None = None,
    processor: ProcessorMixin | None = None,
    selection_ratio: float | Literal["auto"] | Sequence[float | Literal["auto"]] | None = None,
    selection_count: int | Sequence[int] | None = None,
    objective: str | None = None,
    adaptation: str = "auto",
    output_dir: str | Path | None = None,
    seed: int = 42,
    image_column_name: str | None = None,
    label_column_name: str | None = None,
    caption_column: str | None = None,
    num_clusters: int | None = None,
    class_names: Sequence[str] | None = None,
    on_bad_image: str = "error",
    model_revision: str = "main",
    prompt_template: str | Sequence[str] | None = None,
    per_device_eval_batch_size: int | Literal["auto"] = "auto",
    dataloader_num_workers: int | None = None,
    precision: str = "auto",
    bf16: bool = False,
    adapter_name_or_path: str | Path | None = None,
    peft_config: str | Path | None = None,
    temperature: float | None = None,
    learning_rate: float | None = None,
    num_train_epochs: int | None = None,
    train_batch_size: int | None = None,
    max_train_steps: int | None = None,
    alignment: str | None = None,
    diversity_weight: float | str | None = None,
    normalization: str | None = None,
    class_balance: str | None = None,
    balance_by: str | None = None,
    min_per_class: int | None = None,
    class_quotas: Mapping[str, int] | str | Path | None = None,
    gate: bool | None = None,
    gate_floor: float | None = None,
    spread: bool | None = None,
    herding: bool | None = None,
    redundancy_weight: float | None = None,
    solver: str | None = None,
    ratio_weight: float | None = None,
    theta: float | None = None,
    neighbor_fraction: float = 0.1,
    num_neighbors: int | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    must_keep: Listing | None = None,
    must_drop: Listing | None = None,
    decisions: Mapping[int, Decision] | str | Path | None = None,
    reference: Dataset | None = None,
    drop_leaks: bool = False,
    quality_checks: str = "off",
    num_folds: int = 0,
    strict: bool = False,
    overwrite_output_dir: bool = False,
    map: bool = False,
    use_cpu: bool = False,
    allow_outside_files: bool = False,
) -> SelectionResult:
    """Select the part of a labelled or captioned image dataset that is worth training on.

    Every image goes through the frozen CLIP once; adapters are trained on the cached features; every row gets a
    semantic alignment score (eq. 1 of https://huggingface.co/papers/2410.11215) and a sample diversity score (eq. 2);
    where the objective needs it, a noise model tells how probably its label is wrong; the objective turns the scores
    into exactly `floor(selection_ratio * num_rows + 0.5)` rows.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            A split with an image column, and a label column or one of captions; or a dictionary of one split. A stream
            is read once for the scores, and with an `output_dir` once more for the subset; it has to give the same
            rows in the same order each time. In memory are the labels or captions and the scores, never the images.
        model_name_or_path (`str` or `Path`, *optional*): Dual encoder such as CLIP or SigLIP: Hub id, folder or
            `embedded/tiny-clip`.
        model (`PreTrainedModel`, *optional*):
            A dual encoder that is loaded already, instead of a name, on any device and in any dtype. Its weights are
            copied, in float32 and without hooks; it stays as it is.
        processor (`ProcessorMixin`, *optional*): That of `model`, with `.image_processor` and `.tokenizer`.
        selection_ratio (`float`, `"auto"` or a sequence of these, *optional*):
            Fraction of the rows to keep, in (0, 1], or `"auto"`: as many as have right labels, by the estimate of the
            wrong ones. With several, `.selected` is the first one's. Default 0.3, unless there is a count.
        selection_count (`int` or `Sequence[int]`, *optional*): Number of rows to keep, beside or instead of ratios.
        objective (`str`, *optional*, defaults to `"robust"`):
            Preset `"robust"`, `"diverse"`, `"clean"`, `"paper"` or `"released"` of the knobs below; with captions the
            default is `"diverse"`, and there is no noise model.
        adaptation (`str`, *optional*, defaults to `"auto"`): `"auto"`, `"always"` or `"off"`.
        output_dir (`str` or `Path`, *optional*):
            Folder for everything the run makes; by default nothing is left behind. Subsets of other sizes that are in
            it stay, and follow in the result, if everything else is the same.
        seed (`int`, *optional*, defaults to 42): The same seed gives the same subset.
        image_column_name, label_column_name (`str`, *optional*): Found from the features when there is one candidate
            each.
        caption_column (`str`, *optional*):
            Text column of image-text pairs, instead of labels. Each image is compared with its own caption, and with
            up to 1,000 others for the margin; clusters of images stand in for classes in the diversity, the quotas and
            the report.
        num_clusters (`int`, *optional*): How many clusters, where there are captions; default one for about 250 rows.
        class_names (`Sequence[str]`, *optional*):
            One name per class for the prompts, instead of the dataset's own: a list, tuple or array of strings.
        on_bad_image (`str`, *optional*, defaults to `"error"`): `"error"`, or `"drop"` to leave unreadable images out.
        model_revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit of the model.
        prompt_template (`str` or `Sequence[str]`, *optional*): Prompts with `{}` for the class name; several are
            averaged.
        per_device_eval_batch_size (`int` or `"auto"`, *optional*, defaults to `"auto"`):
            Images per forward pass; `"auto"` as in the features that are in `output_dir`, else 64 on a CPU, and on a
            GPU as many as fit, up to 512.
        dataloader_num_workers (`int`, *optional*):
            Decoding processes, or threads where none can start (a start method other than fork, a daemonic process);
            default the other cores beside a GPU, and on a CPU their share of the cores, which is timed.
        precision (`str`, *optional*, defaults to `"auto"`):
            Arithmetic of the frozen towers: `"float32"`, or `"bfloat16"` where the machine has it, which is faster and
            keeps other rows; `"auto"` as in the features that are in `output_dir`, else float32.
        bf16 (`bool`, *optional*, defaults to `False`): The old name of `precision="bfloat16"`.
        adapter_name_or_path (`str` or `Path`, *optional*):
            Hub id or folder of trained adapters on the two projections: nothing is trained, and the scores are theirs.
        peft_config (`str` or `Path`, *optional*): JSON file of another PEFT method for the two projections.
        temperature, learning_rate, num_train_epochs, train_batch_size, max_train_steps:
            Training of the adapters; defaults as the flags.
        alignment, diversity_weight, normalization, redundancy_weight, solver, ratio_weight, theta:
            Knobs as in [`Objective`]; one that is set wins over the preset.
        class_balance, balance_by, min_per_class, gate, gate_floor, spread, herding: Knobs as in [`Objective`] as well.
        class_quotas (`Mapping[str, int]`, `str` or `Path`, *optional*):
            Rows to keep of some classes (or groups), by name, or a YAML file with such lines; the others share the
            rest.
        neighbor_fraction (`float`, *optional*, defaults to 0.1): Neighbours of the diversity score, as a fraction of
            the class.
        num_neighbors (`int`, *optional*): A fixed number of neighbours instead.
        group_column (`str`, *optional*): Categorical column whose shares the report compares, and quotas may be for.
        id_column (`str`, *optional*):
            Column of a text or whole number that each row has alone. The scores have it as text in the column
            `row_id`, and `.apply` finds the rows of a stream by it, in any order and in any part of it.
        must_keep, must_drop (`str`, `Path` or `Sequence[int]`, *optional*):
            Rows that every subset holds, or none: their source_index, a file with one per line, or the name of a
            boolean column.
        decisions (`Mapping[int, Decision]`, `str` or `Path`, *optional*):
            What a person decided about rows, a [`hf_clipselect.data.decisions.Decision`] by source_index, or the file
            `decisions.parquet`. `keep` counts the label as right: it is wrong with probability 0 in all that follows
            from the noise model, which does not force the row into a subset. `relabel` gives the row another label
            before anything is scored, which counts as right too; the images are not encoded again. `drop` leaves the
            row out of every subset, as `must_drop`. `unsure` changes nothing. The scores and the subset then have the
            dataset's own label in a column `given_label`.
        reference (`Dataset`, *optional*):
            Images that no row should be a copy of, such as the test split; they need no labels. Rows that are near
            duplicates of one, by the embeddings of plain CLIP, are told in the report and in the column leak_of.
        drop_leaks (`bool`, *optional*, defaults to `False`): No subset holds such rows.
        quality_checks (`str`, *optional*, defaults to `"off"`):
            `"report"` tells of blurred, dark, bright, nearly uniform and oddly shaped images, found by cleanvision, in
            the report and in the column quality_issues; with `"drop"` no subset holds them. An issue of more than half
            of the rows is only warned of.
        num_folds (`int`, *optional*, defaults to 0):
            Kept adapters are trained anew without each of so many folds, and score only its rows: no label judges
            itself.
        strict (`bool`, *optional*, defaults to `False`): Classes that CLIP does not understand are an error, not a
            warning.
        overwrite_output_dir (`bool`, *optional*, defaults to `False`): Remove another run's results from `output_dir`.
        map (`bool`, *optional*, defaults to `False`):
            Also write `map.parquet` into `output_dir`: up to 5,000 rows, drawn at random, with their places in two
            dimensions by PCA and t-SNE, the nearest rows of each and small images. Viewers of embeddings read it.
        use_cpu (`bool`, *optional*, defaults to `False`): Run on the CPU even if there is a GPU.
        allow_outside_files (`bool`, *optional*, defaults to `False`):
            Rows of a dataset from the Hub may name image files outside of its own folder; one made in memory may name
            any.

    Returns:
        `SelectionResult`: Kept and dropped rows, scores of all rows, `.apply(dataset)` for the filtered dataset.

    Raises:
        InputError: The input is wrong; the message says what was given, what was expected and what to change.
        RunError: The machine failed; the same call goes on from what is in `output_dir`.

    Example:

    ```python
    result = select_dataset(dataset, selection_ratio=[0.3, 0.5], output_dir="clipselect_output")
    subset = result.apply(dataset)
    ```
    """
    sizes = check_sizes(selection_ratio, selection_count)
    passed_model = _passed_model(
        model, processor, is_named=(model_name_or_path, model_revision) != (DEFAULT_MODEL, "main")
    )
    arguments = Arguments(
        data=with_defaults(
            DataArguments,
            dataset_name="",
            image_column_name=image_column_name,
            label_column_name=label_column_name,
            caption_column=caption_column,
            num_clusters=num_clusters,
            group_column=group_column,
            id_column=id_column,
            on_bad_image=on_bad_image,
            allow_outside_files=allow_outside_files,
        ),
        model=with_defaults(
            ModelArguments,
            model_name_or_path=str(model_name_or_path) if passed_model is None else None,
            model_revision=model_revision,
            prompt_template=[prompt_template] if isinstance(prompt_template, str) else prompt_template,
            per_device_eval_batch_size=per_device_eval_batch_size,
            dataloader_num_workers=dataloader_num_workers,
            precision=precision,
            bf16=bf16,
        ),
        adaptation=with_defaults(
            AdaptationArguments,
            adaptation=adaptation,
            adapter_name_or_path=_text(adapter_name_or_path),
            peft_config=_text(peft_config),
            temperature=temperature,
            learning_rate=learning_rate,
            num_train_epochs=num_train_epochs,
            train_batch_size=train_batch_size,
            max_train_steps=max_train_steps,
            num_folds=num_folds,
        ),
        selection=with_defaults(
            SelectionArguments,
            selection_ratio=[size for size in sizes if not is_count(size)] or None,
            selection_count=[size for size in sizes if is_count(size)] or None,
            objective=objective,
            alignment=alignment,
            diversity_weight=diversity_weight,
            normalization=normalization,
            class_balance=class_balance,
            balance_by=balance_by,
            min_per_class=min_per_class,
            gate=gate,
            gate_floor=gate_floor,
            spread=spread,
            herding=herding,
            redundancy_weight=redundancy_weight,
            solver=solver,
            ratio_weight=ratio_weight,
            theta=theta,
            neighbor_fraction=neighbor_fraction,
            num_neighbors=num_neighbors,
            # Lists of rows are no argument of a command line.
            must_keep=str(must_keep) if isinstance(must_keep, (str, Path)) else None,
            must_drop=str(must_drop) if isinstance(must_drop, (str, Path)) else None,
            decisions=str(decisions) if isinstance(decisions, (str, Path)) else None,
            drop_leaks=drop_leaks,
            quality_checks=quality_checks,
            strict=strict,
        ),
        run=RunArguments(
            output_dir=_text(output_dir),
            overwrite_output_dir=overwrite_output_dir,
            seed=seed,
            map=map,
            use_cpu=use_cpu,
        ),
    )
    passed = Passed(dataset, class_names, class_quotas, must_keep, must_drop, decisions, reference, passed_model)
    return run_selection(arguments, passed)


def _passed_model(
    model: PreTrainedModel | None, processor: ProcessorMixin | None, *, is_named: bool
) -> tuple[PreTrainedModel, Any] | None:
    if model is None and processor is None:
        return None
    if is_named:
        raise InputError(
            "A model was passed together with model_name_or_path or model_revision, which name another one; pass "
            "model and processor, or the name."
        )
    return check_passed(model, processor)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
