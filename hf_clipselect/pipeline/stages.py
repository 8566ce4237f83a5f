"""The stages of every run, in their order: encode, with checks -> adapt -> place -> score -> judge -> tabulate ->
select.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..adapters.projections import Projections, embed_rows
from ..results.earlier_sizes import with_earlier_sizes
from ..results.embedding_map import make_map, read_map
from ..results.scores_table import score_table
from ..results.selection_result import SelectionResult
from ..results.subsets import select_from_table
from ..scores.arrays import as_numpy
from ..scores.sample_scores import SampleScores
from ..scores.targets import Captions, Classes
from ..scores.trust import Trust, check_trust, measure_caption_trust, measure_trust
from ..selection import NeighborGraph
from .adapt import Adapted, adapt
from .encode import EncodedRows, encode
from .prepared import AnyPrepared, ImageInputs
from .row_checks import RowChecks, check_rows
from .run_log import timed
from .score import score


@dataclass(frozen=True)
class Outcome:
    """What the stages leave; the selection has no report yet, and the map, if there is one, only places."""

    result: SelectionResult
    rows: EncodedRows
    adapted: Adapted
    trust: Trust
    checks: RowChecks
    map: pa.Table | None = None


def run_stages(prepared: AnyPrepared, seconds: dict[str, float]) -> Outcome:
    """Run all stages, and put the wall-clock seconds of each into `seconds`."""
    with timed(seconds, "encode"):
        rows = encode(prepared)
        prepared, checks = check_rows(prepared, rows)
    with timed(seconds, "adapt"):
        adapted = adapt(prepared, rows)
    embedding_map = None
    if prepared.arguments.run.map:
        with timed(seconds, "map"):  # before folds are scored, for which adapters are taken off
            embedding_map = place(prepared, rows, adapted)
    with timed(seconds, "score"):
        scores, graph = score(prepared, rows, adapted)
        trust = judge(prepared, rows, adapted, scores)
        table = tabulate(prepared, rows, scores)
    with timed(seconds, "select"):
        result = select(prepared, table, graph)
    return Outcome(result, rows, adapted, trust, checks, embedding_map)


def place(prepared: AnyPrepared, rows: EncodedRows, adapted: Adapted) -> pa.Table | None:
    """The map of the readable rows by the embeddings that they are scored by; the main process draws it, or finds it
    in the folder.
    """
    if prepared.processes.index:
        return None
    source_index = prepared.rows.source_index[rows.numbers]
    inputs = prepared.inputs
    earlier = read_map(inputs.folder.path) if isinstance(inputs, ImageInputs) else None
    embeds = _ModelEmbeds(rows, adapted, source_index)
    return make_map(embeds, source_index, seed=prepared.seed, earlier=earlier)


@dataclass(frozen=True)
class _ModelEmbeds:
    """Embeddings by the kept adapters, or by plain CLIP, of the readable rows, `source_index` `(N,)`, rising."""

    rows: EncodedRows
    adapted: Adapted
    source_index: np.ndarray

    def take(self, source_index: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.source_index, source_index)
        return as_numpy(embed_rows(Projections(self.adapted.model), self.rows.features.images, places))


def judge(prepared: AnyPrepared, rows: EncodedRows, adapted: Adapted, scores: SampleScores) -> Trust:
    """Compare predictions with the labels; warn of classes that CLIP does not understand, or refuse by `--strict`."""
    targets, plain = rows.targets, adapted.plain
    predicted = scores.predicted_label if adapted.adaptation.kept else None
    if isinstance(targets, Classes):
        names = [targets.names[number] for number in targets.numbers]
        trust = measure_trust(targets.labels, plain.predicted, predicted, plain.class_embeds, names)
    else:
        agrees = None if predicted is None else predicted == targets.labels
        trust = measure_caption_trust(
            plain.predicted == targets.labels, agrees, num_references=len(targets.references)
        )
    check_trust(trust, strict=prepared.arguments.selection.strict)
    return trust


def tabulate(prepared: AnyPrepared, rows: EncodedRows, scores: SampleScores) -> Dataset:
    """The scores table of all rows, those that could not be read among them."""
    given, targets = prepared.rows, rows.targets
    labels = given.labels
    if isinstance(targets, Captions):
        labels = np.zeros_like(given.labels)  # of a row that could not be read, which has no cluster
        labels[rows.numbers] = targets.clusters
    in_place = targets.in_table(scores).scattered(rows.numbers, len(given.labels))
    return score_table(labels, targets.names, given.source_index, in_place, given.facts)


def select(prepared: AnyPrepared, table: Dataset, graph: NeighborGraph | None) -> SelectionResult:
    """Subsets of all sizes from the scores, beside those that earlier runs in the folder made of the same scores."""
    inputs, processes = prepared.inputs, prepared.processes
    result = SelectionResult(
        scores=select_from_table(table, prepared.objective, prepared.sizes, graph=graph),
        ratios=prepared.sizes,
        objective=prepared.objective,
        source=prepared.rows.source,
        seed=prepared.seed,
    )
    if isinstance(inputs, ImageInputs):
        result = with_earlier_sizes(result, inputs.folder.subset, processes)
    return result
