"""The figures that the paper's tables print, https://huggingface.co/papers/2410.11215, to set beside measured ones.

paper_figures.csv holds tables 1 to 11; figures of the paper that are drawn and not printed are in none of them. What
the tables leave out is read from the text: the network is ResNet-50 where none is named (appendix C), and the dataset
of table 10 is CIFAR-100, since its row "Ours" repeats that of table 2. Accuracies of table 3 are as printed, and the
paper does not say whether they are top-1 or, as section 4.2 says of ImageNet-1k, top-5.

The method `paper_loop` is "Ours", `paper` the column "w/o L_s" of table 5, where the scores are sorted, and `full` all
rows, at ratio 1. evaluation/comparison/ablations.py tells the names of the other columns of tables 5 and 10; some of
those methods sort here where the paper's have the loop.

The network of table 7 has a name that no `--architecture` has, so that its figures stand beside none of ours: it is
`vit_small` of https://github.com/kentaroy47/vision-transformers-cifar10, 512 wide with 6 layers, and `vit-s` here is
384 wide with 12.
"""

import csv
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files

from ..config.checks import check_choice


QUANTITIES = ("accuracy", "noise_share", "saved_cost", "selection_hours", "actual_ratio")


@dataclass(frozen=True)
class PaperFigure:
    """A printed figure and what it is of.

    Args:
        table (`int`): Number of the table in the paper.
        dataset_name (`str`): Hub id of the dataset.
        eval_set (`str`, *optional*): Set that was tested on, where it is not the dataset's own.
        architecture (`str`, *optional*): Network, by the name that `--architecture` takes where it has one.
        method (`str`): Method, by the name that `--methods` of recipes/compare.py takes.
        selection_ratio (`float`, *optional*): Share of the rows that was asked for, in (0, 1].
        noise_kind (`str`, *optional*), noise_rate (`float`): Wrong labels; the rate lies in [0, 1).
        quantity (`str`): "accuracy", "noise_share" (of wrong labels among the kept rows; in table 10, by its figures,
            of kept rows among those with wrong labels), "saved_cost" (of the training) and "actual_ratio", all four in
            percent, or "selection_hours".
        figure (`float`), deviation (`float`, *optional*): Mean and, where printed, standard deviation over the runs.
    """

    table: int
    dataset_name: str
    eval_set: str | None
    architecture: str | None
    method: str
    selection_ratio: float | None
    noise_kind: str | None
    noise_rate: float
    quantity: str
    figure: float
    deviation: float | None

    def __str__(self) -> str:
        deviation = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        return f"{self.figure:.2f}{deviation} (table {self.table})"


@cache
def paper_figures() -> tuple[PaperFigure, ...]:
    """All printed figures, in the order of the tables."""
    text = (files(__package__) / "paper_figures.csv").read_text(encoding="utf-8")
    return tuple(
        PaperFigure(
            table=int(row["table"]),
            dataset_name=row["dataset_name"],
            eval_set=row["eval_set"] or None,
            architecture=row["architecture"] or None,
            method=row["method"],
            selection_ratio=_number(row["selection_ratio"]),
            noise_kind=row["noise_kind"] or None,
            noise_rate=float(row["noise_rate"]),
            quantity=row["quantity"],
            figure=float(row["figure"]),
            deviation=_number(row["deviation"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def paper_figure(
    *,
    dataset_name: str,
    method: str,
    selection_ratio: float | None,
    architecture: str | None,
    noise_rate: float = 0.0,
    noise_kind: str = "symmetric",
    eval_set: str | None = None,
    quantity: str = "accuracy",
) -> PaperFigure | None:
    """The figure that the paper prints for exactly this, if it prints one.

    Where two tables print it, the one with a deviation is given, else that of the first table.

    Args:
        dataset_name (`str`): Hub id of the dataset that rows are selected from.
        method (`str`): Method, by the name that `--methods` of recipes/compare.py takes.
        selection_ratio (`float`, *optional*): Share of the rows that is kept; 1 for the method `full`, and `None` for
            quantities that are of no single ratio.
        architecture (`str`, *optional*): Network; `None` for quantities that depend on none.
        noise_rate (`float`, *optional*, defaults to 0.0), noise_kind (`str`, *optional*, defaults to "symmetric"):
            Labels that were made wrong; the kind counts where the rate is above 0.
        eval_set (`str`, *optional*): Set that is tested on; default: the dataset's own.
        quantity (`str`, *optional*, defaults to "accuracy"): One of `QUANTITIES`.

    Returns:
        [`PaperFigure`], or `None` where the paper prints no such figure.

    Raises:
        InputError: The quantity is unknown.

    Example:

    ```python
    settings = {"dataset_name": "uoft-cs/cifar10", "selection_ratio": 0.7, "architecture": "resnet-50"}
    print(paper_figure(method="paper_loop", **settings))
    # 95.43 ± 0.21 (table 6)
    ```
    """
    check_choice("quantity", quantity, QUANTITIES)
    wanted = (
        dataset_name,
        eval_set,
        architecture,
        method,
        _exact(selection_ratio),
        noise_kind if noise_rate else None,
        _exact(noise_rate),
        quantity,
    )
    found = [figure for figure in paper_figures() if _key(figure) == wanted]
    return min(found, key=lambda figure: (figure.deviation is None, figure.table), default=None)


def _key(figure: PaperFigure) -> tuple[object, ...]:
    return (
        figure.dataset_name,
        figure.eval_set,
        figure.architecture,
        figure.method,
        _exact(figure.selection_ratio),
        figure.noise_kind,
        _exact(figure.noise_rate),
        figure.quantity,
    )


def _exact(number: float | None) -> Decimal | None:
    """As it is written: 0.30 is 0.3, and 0.30001 is not."""
    return None if number is None else Decimal(str(number)).normalize()


def _number(text: str) -> float | None:
    return float(text) if text else None
