"""Keep the results of other recipes here, and fill the tables and figures of the pages from them.

    python recipes/publish_results.py compare_output/digits_noise_20 compare_output/food101_noise_20
    python recipes/publish_results.py label_noise_output/label_noise_clean benchmark_output/benchmark
    python recipes/publish_results.py          # fill the pages from what is kept already

Of each folder the figures (results.csv, results.json, accuracy.csv, noise.csv), the pages and the plots are copied to
--output_dir/<name of the folder>. The tables of what is kept are written again from its results.csv, accuracy.csv and
noise.csv, or a benchmark's results.json, under the command and the commit that stand there. In README.md and
recipes/README.md a table that follows a line such as

    <!-- results/digits_noise_20: Test accuracy, network, %: -->
    <!-- results/digits_noise_20: Wrong labels among the kept rows, %: only `diverse`; random rows -->
    <!-- results/digits_ablations [50% wrong labels]: Test accuracy, network, %: -->

is replaced with the one that stands under this caption in tables.md, or with these rows of it, or with that under the
heading that has these words. In a sentence a figure stands between two marks, of which the first may run over two
lines, but not begin one, since Markdown would take the rest of that line for HTML:

    <!-- results/digits_noise_20: Test accuracy, network: `robust` / 0.2 -->94.0<!-- / -->
    <!-- results/digits_noise_20: Test accuracy, network: `robust` / 0.2 ± -->94.0 ± 0.7<!-- / -->
    <!-- results/digits_noise_20: Test accuracy, network: `robust` / 0.2 minus random rows / 0.2 -->8.9<!-- / -->
    <!-- results/tests after wrong captions among the rows kept at 0.2, 0.3, 0.5, 0.8, %: -->0.0<!-- / -->

It is the cell of a row and a column in the table whose caption begins so, with its deviation where the mark has ±, the
difference of two cells, or the number that follows some words in the pages of the folder.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import argparse
import json
import re
import shutil
from decimal import Decimal
from pathlib import Path

from hf_clipselect.evaluation.benchmark.ratios import markdown as benchmark_markdown
from hf_clipselect.evaluation.comparison.regret_tables import read_regrets, regret_markdown
from hf_clipselect.evaluation.comparison.sweep_tables import markdown, read_rows


RECIPES = Path(_HERE)
PAGES = (RECIPES.parent / "README.md", RECIPES / "README.md")
KEPT = ("results.csv", "results.json", "accuracy.csv", "noise.csv", "tables.md", "tsne.md", "*.png")
MARKER = re.compile(
    r"^<!-- results/(\w+)(?: \[(.*?)\])?: (.*?:)(?: only (.*?))? -->\n(?:\n((?:\|.*\n)+))?", re.MULTILINE
)
FIGURE = re.compile(
    r"(<!--\s+results/(\w+)(?:\s+\[([^\]]*)\])?(?::\s+|\s+(after)\s+)((?:(?!-->).)*?)\s+-->)"
    r"[^<]*(<!--\s+/\s+-->)",
    re.DOTALL,
)
_BEGINS_A_LINE = re.compile(r"^[\s>*+-]*(?:\d+\.\s*)?<!--\s+results/[^>]*-->[^\n]*\S", re.MULTILINE)
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"


def main() -> int:
    arguments = parse_arguments()
    output_dir = Path(arguments.output_dir)
    try:
        for folder in map(Path, arguments.folders):
            keep(folder, output_dir / folder.name)
        for path in sorted(output_dir.glob("*/tables.md")):
            path.write_text(written_again(path), encoding="utf-8")
        for page in PAGES:
            page.write_text(filled(page.read_text(encoding="utf-8"), output_dir), encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print(
        f"kept in {output_dir}: {', '.join(arguments.folders) or 'nothing new'}; filled: {', '.join(map(str, PAGES))}"
    )
    return 0


def keep(folder: Path, kept: Path) -> None:
    if not (folder / "tables.md").is_file():
        raise ValueError(
            f"{folder} has no tables.md; give the --output_dir of a run of compare.py, label_noise.py or benchmark.py "
            "that ended."
        )
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for pattern in KEPT:
        for path in sorted(folder.glob(pattern)):
            shutil.copyfile(path, kept / path.name)


def written_again(path: Path) -> str:
    """A tables.md with the tables that its folder's figures give today, under its own head; as it is without any."""
    text, folder = path.read_text(encoding="utf-8"), path.parent
    head = text.split("\n\n## ", 1)[0]
    if (folder / "results.csv").is_file():
        return f"{head}\n\n{markdown(read_rows(folder / 'results.csv'))}"
    if (folder / "accuracy.csv").is_file():
        return f"{head}\n\n{regret_markdown(*read_regrets(folder))}"
    if folder.name.startswith("benchmark"):
        return f"{head}\n\n{benchmark_markdown(json.loads((folder / 'results.json').read_text(encoding='utf-8')))}"
    return text


def filled(page: str, results: Path) -> str:
    """A page with its marked tables and figures as they are in the results."""
    if found := _BEGINS_A_LINE.search(page):
        raise ValueError(
            f"the mark {found[0].strip()[:80]!r} begins a line, and Markdown takes the rest of it for HTML; move a "
            "word before it."
        )

    def with_table(match: re.Match) -> str:
        name, heading, caption, only, _ = match.groups()
        rows = table_under(heading or "", caption, results / name / "tables.md")
        if only is not None:
            wanted = [row.strip() for row in only.split(";")]
            found = {row.split("|")[1].strip(): row for row in rows[2:]}
            if missing := [row for row in wanted if row not in found]:
                raise ValueError(
                    f"results/{name} has no row {missing[0]!r} under {caption!r}; it has {', '.join(found)}."
                )
            rows = rows[:2] + [found[row] for row in wanted]
        marker = match[0].split("\n", 1)[0]
        return f"{marker}\n\n" + "".join(f"{row}\n" for row in rows)

    def with_figure(match: re.Match) -> str:
        opening, name, heading, after, what, closing = match.groups()
        what, folder = " ".join(what.split()), results / name
        found = number_after(what, folder) if after else figure_of(heading or "", what, folder / "tables.md")
        return f"{opening}{found}{closing}"

    return FIGURE.sub(with_figure, MARKER.sub(with_table, page))


def figure_of(heading: str, what: str, path: Path) -> str:
    """`CAPTION: ROW / COLUMN`, or that cell minus another one."""
    caption, _, cells = what.rpartition(": ")
    first, *others = (cell_of(heading, caption, cell, path) for cell in cells.split(" minus "))
    if not others:
        return first
    numbers = [cell.partition(" ")[0] for cell in (first, *others)]
    if len(numbers) > 2 or not all(re.fullmatch(_NUMBER, number) for number in numbers):
        raise ValueError(f"{path}: {what!r} must be the difference of two numbers, and its cells are {numbers}.")
    difference = Decimal(numbers[0].replace(",", "")) - Decimal(numbers[1].replace(",", ""))
    if difference < 0:
        raise ValueError(f"{path}: {what!r} is {difference}, below 0; turn the sentence and the mark.")
    return str(difference)


def cell_of(heading: str, caption: str, cell: str, path: Path) -> str:
    """`ROW / COLUMN` of the table whose caption begins so, never bold, and with its deviation for `ROW / COLUMN ±`."""
    row, _, column = cell.rpartition(" / ")
    with_deviation = column.endswith(" ±")
    column = column.removesuffix(" ±")
    names, _, *lines = (
        [text.strip().replace("*", "") for text in line.split("|")[1:-1]]
        for line in table_under(heading, caption, path, whole=False)
    )
    rows = {line[0]: dict(zip(names[1:], line[1:], strict=True)) for line in lines}
    if row not in rows or column not in rows[row]:
        raise ValueError(
            f"{path} has no cell {cell!r} under {caption!r}; its rows are {', '.join(rows)}, its columns "
            f"{', '.join(names[1:])}."
        )
    return rows[row][column] if with_deviation else rows[row][column].split(" ±")[0]


def number_after(words: str, folder: Path) -> str:
    """The number that follows some words, once in the pages of a folder."""
    pages = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in sorted(folder.glob("*.md")))
    found = re.findall(rf"{re.escape(words)} ?({_NUMBER})", pages)
    if len(found) != 1:
        raise ValueError(f"{folder} has {len(found)} numbers after {words!r}; name words that stand before one alone.")
    return found[0]


def table_under(heading: str, caption: str, path: Path, *, whole: bool = True) -> list[str]:
    """The lines of the first table under a caption, or one that begins so, in the first part with such a heading."""
    line = re.compile(rf"\n{re.escape(caption)}{'' if whole else '.*'}\n\n((?:\|.*\n?)+)")
    for part in path.read_text(encoding="utf-8").split("\n## ")[1:]:
        if heading in part.split("\n", 1)[0] and (found := line.search(part)):
            return found[1].rstrip("\n").split("\n")
    raise ValueError(f"{path} has no table under {caption!r}" + (f" in a part {heading!r}." if heading else "."))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", help="Output folders of the recipes.")
    parser.add_argument("--output_dir", default=str(RECIPES / "results"), help="Where they are kept.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
