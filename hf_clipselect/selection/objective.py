"""What a selection maximises: named presets over open knobs."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.checks import check_choice, is_finite_number, is_whole_number
from ..errors import InputError
from .counts import AUTO, Size


logger = logging.getLogger(__name__)

ALIGNMENTS = ("cosine", "margin", "ensemble", "noise_model")
NORMALIZATIONS = ("none", "minmax_mean", "zscore", "rank")
CLASS_BALANCES = ("none", "proportional", "uniform")
BALANCE_BY = ("class", "group")
SOLVERS = ("exact", "sgd")
ALPHA_IS_RATIO = "ratio"


@dataclass(frozen=True)
class Objective:
    """The resolved knobs of a selection, checked.

    Args:
        name (`str`): Preset that the knobs come from.
        alignment (`str`): "cosine" (SAS, eq. 1 of https://huggingface.co/papers/2410.11215), "margin" to the best
            other class, "ensemble", the sum of the log probabilities of CLIP and of an out-of-fold logistic
            regression, or "noise_model", the probability that the label is right by the model of the wrong ones.
        diversity_weight (`float` or `str`): Alpha of eq. 6, at least 0; "ratio" makes it the selection ratio.
        normalization (`str`): Of both scores over all rows before they are added: "none"; "minmax_mean", to [0, 1] and
            then divided by the mean; "zscore", to mean 0 and standard deviation 1; or "rank", to the share of rows
            below, in (0, 1).
        class_balance (`str`): "none", or quotas "proportional" to the classes or "uniform" over them.
        gate (`bool`): Rows whose predicted label is the given one come first, the others only where these are used up.
        spread (`bool`): Within each class rows are picked evenly over the alignment ranking, and evenly over diversity
            inside a stratum.
        solver (`str`): "exact", or "sgd", the loop of the paper, which does nothing but rank rows by their score.
        gate_floor (`float`, *optional*, defaults to `0.0`): Rows below this quantile of the alignment of their class's
            agreeing rows do not pass the gate either, in [0, 1).
        redundancy_weight (`float`, *optional*, defaults to `0.0`): How much of its score a row loses for being like
            one that is kept already, at least 0; in units of the score.
        min_per_class (`int`, *optional*, defaults to `0`): Fewest rows that a quota leaves a class, or all that it
            has.
        class_quotas (`Mapping[str, int]`, *optional*): Rows to keep of some classes, by name; the others share the
            rest.
        balance_by (`str`, *optional*, defaults to `"class"`): Whether quotas are for each "class" or each "group".
        ratio_weight (`float`, *optional*, defaults to `2.0`): Beta of eq. 6, above 0; only solver "sgd" uses it.
        theta (`float`, *optional*, defaults to `5e-4`): Share of the rows by which the number kept may differ from the
            one asked for (section 3.3), in (0, 1); only solver "sgd" uses it.
        herding (`bool`, *optional*, defaults to `False`): Within each class rows are picked so that their mean follows
            that of the rows whose labels are safe; the doubtful rows come last, by the probability that they are
            right. Alignment then counts for `gate_floor` alone.

    Raises:
        InputError: A value is unknown or out of range, or two knobs contradict each other.
    """

    name: str
    alignment: str
    diversity_weight: float | str
    normalization: str
    class_balance: str
    gate: bool
    spread: bool
    solver: str
    gate_floor: float = 0.0
    redundancy_weight: float = 0.0
    min_per_class: int = 0
    class_quotas: Mapping[str, int] | None = None
    balance_by: str = "class"
    ratio_weight: float = 2.0
    theta: float = 5e-4
    herding: bool = False

    def __post_init__(self) -> None:
        check_choice("alignment", self.alignment, ALIGNMENTS)
        check_choice("normalization", self.normalization, NORMALIZATIONS)
        check_choice("class_balance", self.class_balance, CLASS_BALANCES)
        check_choice("balance_by", self.balance_by, BALANCE_BY)
        check_choice("solver", self.solver, SOLVERS)
        self._check_values()
        self._check_relations()

    def _check_values(self) -> None:
        weight = self.diversity_weight
        if weight != ALPHA_IS_RATIO and not (is_finite_number(weight) and weight >= 0):
            raise InputError(f'--diversity_weight must be a number of at least 0 or "ratio", got {weight!r}.')
        for knob in ("gate", "spread", "herding"):
            if not isinstance(getattr(self, knob), bool):
                raise InputError(f"--{knob} must be true or false, got {getattr(self, knob)!r}.")
        if not (is_finite_number(self.gate_floor) and 0 <= self.gate_floor < 1):
            raise InputError(f"--gate_floor is a quantile and must lie in [0, 1), got {self.gate_floor!r}.")
        if not (is_finite_number(self.redundancy_weight) and self.redundancy_weight >= 0):
            raise InputError(f"--redundancy_weight must be a number of at least 0, got {self.redundancy_weight!r}.")
        if not is_whole_number(self.min_per_class, at_least=0):
            raise InputError(f"--min_per_class must be a whole number of at least 0, got {self.min_per_class!r}.")
        if not (is_finite_number(self.ratio_weight) and self.ratio_weight > 0):
            raise InputError(f"--ratio_weight must be a number above 0, got {self.ratio_weight!r}.")
        if not (is_finite_number(self.theta) and 0 < self.theta < 1):
            raise InputError(f"--theta is a share of the rows and must lie in (0, 1), got {self.theta!r}.")
        if self.class_quotas is not None:
            wrong = [
                name
                for name, count in self.class_quotas.items()
                if not (isinstance(name, str) and is_whole_number(count, at_least=0))
            ]
            if wrong or not self.class_quotas:
                given = f"{wrong[0]!r}: {self.class_quotas[wrong[0]]!r}" if wrong else "nothing"
                raise InputError(
                    f"class_quotas must give class names (text) their rows to keep (int), such as {{'cat': 20}}, got "
                    f"{given}."
                )

    def _check_relations(self) -> None:
        where = f'(objective "{self.name}")'
        if self.gate_floor and not self.gate:
            raise InputError(
                f"--gate_floor {self.gate_floor} is a part of the gate, which is off {where}; pass --gate true too."
            )
        scores = {"diversity_weight": 0, "normalization": "none"}
        own_orders = {
            "herding": ("their images alone", {"spread": False, **scores}),
            "spread": ("alignment and diversity in its own way", scores),
        }
        for knob, (how, others) in own_orders.items():
            for other, off in others.items() if getattr(self, knob) else ():
                if (value := getattr(self, other)) != off:
                    raise InputError(
                        f"{knob} orders rows by {how}, so --{other} {str(value).lower()} would do nothing {where}; "
                        f"leave it out (--{other} {str(off).lower()}), or pass --{knob} false."
                    )
        needing = {
            "min_per_class": self.min_per_class,
            "class_quotas_file": self.class_quotas,
            "balance_by group": self.balance_by == "group",
        }
        for flag, is_set in needing.items():
            if is_set and self.class_balance == "none":
                raise InputError(
                    f"--{flag} needs quotas, but class_balance is none {where}; pass --class_balance proportional or "
                    "uniform."
                )
        if self.solver == "sgd":
            taken = {"class_balance": "none", "gate": False, "spread": False, "herding": False, "redundancy_weight": 0}
            for knob, off in taken.items():
                if getattr(self, knob) != off:
                    raise InputError(
                        f"--solver sgd ranks rows by their score alone and takes no {knob}, got {getattr(self, knob)} "
                        f"{where}; pass --{knob} {str(off).lower()} or --solver exact."
                    )

    @property
    def alpha_is_ratio(self) -> bool:
        """True where alpha follows the ratio: rows then rank differently at each ratio, and subsets are not nested."""
        return self.diversity_weight == ALPHA_IS_RATIO

    @property
    def needs_noise_model(self) -> bool:
        """True where how probably a label is wrong decides which rows are kept."""
        return self.herding or self.alignment == "noise_model"

    def to_dict(self) -> dict[str, Any]:
        """The knobs as plain values, for YAML and JSON; `Objective(**knobs)` brings them back."""
        return dataclasses.asdict(self)


PRESETS = {
    preset.name: preset
    for preset in (
        # For classes that CLIP knows and for those that it does not: recipes/README.md has the figures.
        Objective(
            "robust",
            "noise_model",
            0.0,
            "none",
            "proportional",
            gate=False,
            spread=False,
            solver="exact",
            herding=True,
        ),
        # For classes that CLIP knows, and for captions.
        Objective("diverse", "margin", 0.0, "none", "proportional", gate=True, spread=True, solver="exact"),
        Objective("clean", "margin", 0.0, "none", "proportional", gate=False, spread=False, solver="exact"),
        # As printed in the paper.
        Objective("paper", "cosine", ALPHA_IS_RATIO, "none", "none", gate=False, spread=False, solver="exact"),
        # As in the authors' code.
        Objective("released", "cosine", 0.1, "minmax_mean", "none", gate=False, spread=False, solver="exact"),
    )
}
DEFAULT_PRESET, DEFAULT_CAPTION_PRESET = "robust", "diverse"
KNOBS = tuple(field.name for field in dataclasses.fields(Objective) if field.name != "name")


def resolve_objective(
    name: str | None = None, knobs: Mapping[str, Any] | None = None, *, has_captions: bool = False
) -> Objective:
    """All knobs, checked: those that are `None` or missing are filled from the preset "robust", "diverse", "clean",
    "paper" or "released"; by default from "robust", and for rows that have captions in place of labels from "diverse".

    Raises `InputError` where the preset, a knob or a value is unknown, the knobs contradict each other, or rows that
    have captions are to be herded.
    """
    if name is None:
        name = DEFAULT_CAPTION_PRESET if has_captions else DEFAULT_PRESET
    check_choice("objective", name, tuple(PRESETS))
    set_knobs = {knob: value for knob, value in (knobs or {}).items() if value is not None}
    if unknown := sorted(set(set_knobs) - set(KNOBS)):
        raise InputError(f"Unknown knobs of an objective: {', '.join(unknown)}; known are {', '.join(KNOBS)}.")
    if has_captions and set_knobs.get("herding") is True:  # before an error says what else has to go with it
        raise _needs_labels("--herding true", "leave it out")
    objective = dataclasses.replace(PRESETS[name], **set_knobs)
    if objective.alpha_is_ratio and not objective.gate:
        logger.warning(
            '--diversity_weight ratio without a gate (objective "%s") keeps most mislabelled rows at high ratios, '
            "because wrong labels look diverse. Measured with 20 %% wrong labels on the embedded digits: 12 %% of the "
            "wrong rows kept at 0.5, 79 %% at 0.7, 97 %% at 0.8. For labels that may be wrong use --objective %s "
            "or clean, --diversity_weight 0, or the gate.",
            objective.name,
            DEFAULT_CAPTION_PRESET if has_captions else DEFAULT_PRESET,
        )
    return objective


def check_captions(objective: Objective, sizes: Sequence[Size]) -> None:
    """Raise `InputError` where rows that have captions in place of labels would need the noise model of labels."""
    if objective.needs_noise_model and PRESETS[objective.name].needs_noise_model:
        raise _needs_labels(f"--objective {objective.name}", "pass --objective diverse, or another")
    if objective.needs_noise_model:
        knob = "--herding true" if objective.herding else "--alignment noise_model"
        raise _needs_labels(knob, "leave it out")
    if AUTO in sizes:
        raise _needs_labels("--selection_ratio auto", "give a number, such as --selection_ratio 0.3")


def _needs_labels(asked: str, instead: str) -> InputError:
    return InputError(
        f"{asked} asks how probably a label is wrong, and image-text pairs have captions in place of labels; "
        f"{instead}."
    )
