"""Arguments of the selection itself: sizes, the objective and its knobs. No torch here."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import InputError
from .argument_types import check_fields
from .checks import check_at_least


@dataclass
class SelectionArguments:
    """How scores become a subset. `None` leaves the knob to the preset of `objective`."""

    _argument_group_name = "selection"

    selection_ratio: list[float | Literal["auto"]] | None = field(
        default=None,
        metadata={
            "help": "Fraction of the rows to KEEP, in (0, 1], or auto: as many as have right labels, by the estimate "
            "of the wrong ones; several give several subsets. Default: 0.3."
        },
    )
    selection_count: list[int] | None = field(
        default=None, metadata={"help": "Number of rows to keep, beside or instead of ratios."}
    )
    objective: Literal["robust", "diverse", "clean", "paper", "released"] | None = field(
        default=None, metadata={"help": "Preset of the knobs; default: robust, with captions diverse."}
    )
    alignment: Literal["cosine", "margin", "ensemble", "noise_model"] | None = field(
        default=None,
        metadata={
            "help": "Alignment score: cosine (eq. 1), margin to the best other class, ensemble with a logistic "
            "regression, or noise_model, the probability that the label is right."
        },
    )
    diversity_weight: float | str | None = field(
        default=None, metadata={"help": "Weight of the diversity score (alpha of eq. 6): a number, or ratio."}
    )
    normalization: Literal["none", "minmax_mean", "zscore", "rank"] | None = field(
        default=None, metadata={"help": "Normalisation of both scores before they are added."}
    )
    class_balance: Literal["none", "proportional", "uniform"] | None = field(
        default=None, metadata={"help": "Quotas per class."}
    )
    balance_by: Literal["class", "group"] | None = field(
        default=None, metadata={"help": "Whether quotas are for each class, or for each group of --group_column."}
    )
    min_per_class: int | None = field(
        default=None, metadata={"help": "Fewest rows that a quota leaves a class; a smaller class is kept whole."}
    )
    class_quotas_file: str | None = field(
        default=None,
        metadata={"help": "YAML file with lines `class name: rows` to keep; the other classes share the rest."},
    )
    gate: bool | None = field(
        default=None,
        metadata={"help": "Rows whose label CLIP agrees with come first, others only when these are used up."},
    )
    gate_floor: float | None = field(
        default=None,
        metadata={"help": "Rows below this quantile of their class's alignment do not pass the gate, in [0, 1)."},
    )
    spread: bool | None = field(
        default=None,
        metadata={"help": "Pick evenly over easy and hard rows of each class, and over typical and unusual ones."},
    )
    herding: bool | None = field(
        default=None,
        metadata={
            "help": "Pick rows of each class so that their mean follows that of the rows whose labels are safe; "
            "doubtful rows come last."
        },
    )
    redundancy_weight: float | None = field(
        default=None,
        metadata={"help": "How much score a row loses for being like one that is kept; above 0 finds copies."},
    )
    solver: Literal["exact", "sgd"] | None = field(
        default=None, metadata={"help": "exact, or the gradient loop of the paper (Algorithm 1)."}
    )
    ratio_weight: float | None = field(
        default=None, metadata={"help": "Weight of the ratio loss (beta of eq. 6); only solver sgd uses it."}
    )
    theta: float | None = field(
        default=None,
        metadata={
            "help": "Share of the rows by which the number kept may differ from the one asked for (section 3.3), in "
            "(0, 1); only solver sgd uses it."
        },
    )
    neighbor_fraction: float = field(
        default=0.1, metadata={"help": "Neighbours of the diversity score as a fraction of the class (eq. 2)."}
    )
    num_neighbors: int | None = field(
        default=None, metadata={"help": "Fixed number of neighbours of the diversity score."}
    )
    must_keep: str | None = field(
        default=None,
        metadata={
            "metavar": "FILE",
            "help": "Rows of every subset: a file with one source_index per line, or a boolean column.",
        },
    )
    must_drop: str | None = field(
        default=None,
        metadata={
            "metavar": "FILE",
            "help": "Rows of no subset: a file with one source_index per line, or a boolean column.",
        },
    )
    decisions: str | None = field(
        default=None,
        metadata={
            "metavar": "FILE",
            "help": "Parquet file of what a person decided about single rows, as hf-clipselect explore writes it: "
            "their labels are right, or become others, or no subset holds them.",
        },
    )
    drop_leaks: bool = field(
        default=False,
        metadata={"help": "Rows that are copies of rows of --reference_split are in no subset, instead of only told."},
    )
    quality_checks: Literal["off", "report", "drop"] = field(
        default="off",
        metadata={
            "help": "Blurred, dark, bright, uniform and oddly shaped images, by cleanvision: report tells of them, "
            "drop leaves them out of every subset."
        },
    )
    strict: bool = field(
        default=False,
        metadata={"help": "Stop before selecting where CLIP does not understand classes, instead of warning."},
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.diversity_weight, str) and self.diversity_weight != "ratio":
            try:
                self.diversity_weight = float(self.diversity_weight)
            except ValueError:
                raise InputError(
                    f"--diversity_weight must be a number or the word ratio, got {self.diversity_weight!r}."
                ) from None
        if not 0 < self.neighbor_fraction <= 1:
            raise InputError(f"--neighbor_fraction must lie in (0, 1], got {self.neighbor_fraction!r}.")
        check_at_least(1, "num_neighbors", self.num_neighbors)

    def knobs(self) -> dict[str, Any]:
        """The knobs of the objective, as `resolve_objective` takes them; `None` where the preset decides."""
        names = (
            "alignment diversity_weight normalization class_balance balance_by min_per_class gate gate_floor spread"
        )
        names += " herding redundancy_weight solver ratio_weight theta"
        return {name: getattr(self, name) for name in names.split()}
