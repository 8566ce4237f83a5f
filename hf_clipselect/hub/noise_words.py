"""What the entry `noise` of a report says of wrong labels, in sentences for the console, the page and the cards.

Strings are plain: whoever prints one escapes it.
"""

from collections.abc import Mapping
from typing import Any

from ..runtime.words import counted, cut


# Below this share the estimate can hardly be told from none.
_NEARLY_NONE = 0.02
_MAX_NAME = 40


def about_percent(share: float) -> str:
    """A share as it is known: "about 12 %", "less than 1 %"."""
    return f"about {100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def look_wrong(noise: Mapping[str, Any]) -> str:
    """The estimated share as a clause: "about 12 % of the labels look wrong (human mistakes are often ...)"."""
    share = about_percent(noise["estimated_share"])
    return f"{share} of the labels look wrong (human mistakes are often under-counted)"


def confused_pairs(noise: Mapping[str, Any], *, limit: int) -> str:
    """The most frequent pairs: "eight looks like nine (10 rows), one looks like seven (1 row)"; "" without any.

    Long names are cut.
    """
    return ", ".join(
        f"{cut(pair['label'], _MAX_NAME)} looks like {cut(pair['clean_label'], _MAX_NAME)} "
        f"({counted(pair['rows'], 'row')})"
        for pair in noise["transitions"][:limit]
    )


def auto_keeps_all(noise: Mapping[str, Any] | None, subset: Mapping[str, Any]) -> str | None:
    """What a subset of the size "auto" does where hardly a label looks wrong: "keeps nearly all rows, since ..."; else
    None.
    """
    if noise is None or subset["auto_ratio"] is None or noise["estimated_share"] >= _NEARLY_NONE:
        return None
    if subset["auto_ratio"] <= 1 - _NEARLY_NONE:  # must_drop or quotas leave out others
        return None
    how_many = "all" if subset["ratio"] == 1 else "nearly all"  # auto_ratio is rounded
    which = "hardly any" if noise["transitions"] or how_many != "all" else "no"
    return f"keeps {how_many} rows, since {which} label looks wrong; for a smaller set random rows would do"
