"""How much of the data a recipe damages: the flags of all recipes that make labels wrong or damage images."""

from dataclasses import dataclass, field

from ...errors import InputError
from .corruptions import SEVERITIES


@dataclass
class DamageArguments:
    """Wrong labels and damaged images; the test rows stay untouched."""

    noise_rate: list[float] = field(
        default_factory=lambda: [0.2], metadata={"help": "Shares of the labels to make wrong, each a setting."}
    )
    corruption_rate: list[float] = field(
        default_factory=lambda: [0.0], metadata={"help": "Shares of the images to damage, each a setting."}
    )
    corruption_severity: int = field(default=5, metadata={"help": "How badly, 1 to 5; 5 is the paper's."})

    def __post_init__(self) -> None:
        for name, highest in (("noise_rate", "1)"), ("corruption_rate", "1]")):
            rates = getattr(self, name)
            for rate in rates:
                if not 0 <= rate <= 1 or (rate == 1 and highest == "1)"):
                    raise InputError(f"--{name} is a share of the rows and must lie in [0, {highest}, got {rate}.")
            if not rates or len(set(rates)) < len(rates):
                raise InputError(f"--{name} must name at least one value, and each once, got {rates}.")
        if self.corruption_severity not in SEVERITIES:
            raise InputError(
                f"--corruption_severity must be one of {', '.join(map(str, SEVERITIES))}, got "
                f"{self.corruption_severity}."
            )
