"""Keep the results of other recipes here, and fill the tables of the pages from them.

    python recipes/publish_results.py compare_output/digits_noise_20 compare_output/food101_noise_20
    python recipes/publish_results.py label_noise_output/label_noise_clean benchmark_output/benchmark
    python recipes/publish_results.py          # fill the pages from what is kept already

Of each folder the figures (results.csv, results.json, accuracy.csv, noise.csv), the pages and the plots are copied to
--output_dir/<name of the folder>. In README.md and recipes/README.md a table that follows a line such as

    <!-- results/digits_noise_20: Test accuracy, network, %: -->
    <!-- results/digits_noise_20: Wrong labels among the kept rows, %: only `diverse`, random rows -->
    <!-- results/digits_ablations [50% wrong labels]: Test accuracy, network, %: -->

is replaced with the one that stands under this caption in tables.md, or with these rows of it, or with that under the
heading that has these words.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import argparse
import re
import shutil
from pathlib import Path


RECIPES = Path(_HERE)
PAGES = (RECIPES.parent / "README.md", RECIPES / "README.md")
KEPT = ("results.csv", "results.json", "accuracy.csv", "noise.csv", "tables.md", "tsne.md", "*.png")
MARKER = re.compile(
    r"^<!-- results/(\w+)(?: \[(.*?)\])?: (.*?:)(?: only (.*?))? -->\n(?:\n((?:\|.*\n)+))?", re.MULTILINE
)


def main() -> int:
    arguments = parse_arguments()
    output_dir = Path(arguments.output_dir)
    try:
        for folder in map(Path, arguments.folders):
            keep(folder, output_dir / folder.name)
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


def filled(page: str, results: Path) -> str:
    """A page with its marked tables as they are in the results."""

    def with_table(match: re.Match) -> str:
        name, heading, caption, only, _ = match.groups()
        rows = table_under(heading or "", caption, results / name / "tables.md")
        if only is not None:
            wanted = [row.strip() for row in only.split(",")]
            found = {row.split("|")[1].strip(): row for row in rows[2:]}
            if missing := [row for row in wanted if row not in found]:
                raise ValueError(
                    f"results/{name} has no row {missing[0]!r} under {caption!r}; it has {', '.join(found)}."
                )
            rows = rows[:2] + [found[row] for row in wanted]
        marker = match[0].split("\n", 1)[0]
        return f"{marker}\n\n" + "".join(f"{row}\n" for row in rows)

    return MARKER.sub(with_table, page)


def table_under(heading: str, caption: str, path: Path) -> list[str]:
    """The lines of the first table under a caption, in the first part whose heading has some words."""
    for part in path.read_text(encoding="utf-8").split("\n## ")[1:]:
        if heading in part.split("\n", 1)[0] and f"\n{caption}\n\n" in part:
            return part.split(f"\n{caption}\n\n", 1)[1].split("\n\n", 1)[0].rstrip("\n").split("\n")
    raise ValueError(f"{path} has no table under {caption!r}" + (f" in a part {heading!r}." if heading else "."))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", help="Output folders of the recipes.")
    parser.add_argument("--output_dir", default=str(RECIPES / "results"), help="Where they are kept.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
