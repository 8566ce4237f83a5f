"""Our card over a README.md that is there already: what people wrote in it stays.

The headers are merged as YAML nodes, not as Python values, which would turn `language: no` into false and `1.10` into
1.1.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from ..errors import InputError
from ..runtime.files import write_text_atomically
from ..runtime.words import in_one_line


AGREEMENT_METRIC = "agreement with the given labels on held-out rows"

# At the start of a line, where no text that is escaped or stands in a block of a card can bring them.
_BEGIN = re.compile(r"^<!-- hf_clipselect:begin\b[^\r\n]*?-->", re.MULTILINE)
_END = re.compile(r"^<!-- hf_clipselect:end\b[^\r\n]*?-->", re.MULTILINE)
_WROTE = re.compile(r"(\w+)=([0-9a-f]{16})\b")
_WHOLE = "whole_header"

# Names of the configs that this package writes, each a folder of shards.
OUR_CONFIG = re.compile(r"ratio_(?:\d+(?:_\d+)?|auto)|count_\d+|scores")
_UNITED = ("tags", "task_categories")
_OURS = (
    "size_categories",
    "source_datasets",
    "base_model",
    "base_model_relation",
    "library_name",
    "pipeline_tag",
    "datasets",
    "metrics",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
)

# The name of a key -> its node and that of its value.
_Header = dict[str, tuple[yaml.Node, yaml.Node]]


def merge_cards(ours: str, theirs: str) -> str:
    """The README.md to push over one, perhaps empty, that is there: our part and facts are renewed, all else stays.

    Of the text, only what stands between our two marks is replaced; without them our part follows after theirs. Of the
    header, the keys keep their order: tags and task categories are united, configs are ours by name, what describes
    the pushed files is ours, and everything else stays theirs. Comments stay in a header that needs no change. A
    config of theirs that is named `default` remains the one that `load_dataset` gives without a name, since two are
    refused. Merging `ours` into the result again changes nothing.

    Raises `InputError` where the header of `theirs` is not YAML, nested too deeply, or no mapping.
    """
    if is_all_ours(theirs):
        return ours
    newline = "\r\n" if "\r\n" in theirs else "\n"
    our_head, our_body = _split(ours.replace("\r\n", "\n"))
    their_head, their_body = _split(theirs)
    head = _merge_heads(our_head, their_head, newline, wrote=_written_before(their_body))
    if not their_body.strip():
        return head + our_body.replace("\n", newline)
    start, end = _marked(our_body) or (0, len(our_body))
    section = our_body[start:end].replace("\n", newline)
    if place := _marked(their_body):
        return head + their_body[: place[0]] + section + their_body[place[1] :]
    gap = next(gap for gap in ("", newline, 2 * newline) if (their_body + gap).endswith(2 * newline))
    return head + their_body + gap + section + newline


def write_card(path: Path, card: str) -> None:
    """Write a README.md, or our part of one that is there; raises what [`read_card`] raises."""
    write_text_atomically(path, merge_cards(card, read_card(path)))


def read_card(path: Path) -> str:
    """A README.md that people may have written in, for [`merge_cards`]; empty where there is none.

    Raises `InputError` where it is not UTF-8, or its header can't be read, so that nothing could be kept of it.
    """
    try:
        card = path.read_bytes().decode() if path.exists() else ""
        _read(_split(card)[0])
        return card
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is not UTF-8, so what people wrote there can't be kept: save it as UTF-8, or move it away."
        ) from None
    except InputError as error:
        raise InputError(f"{path} can't be kept as it is. {error}") from None


def is_all_ours(card: str) -> bool:
    """Whether a README.md is as we wrote it, but for what stands between our marks."""
    head, body = _split(card)
    place = _marked(body)
    return (
        place is not None
        and not (body[: place[0]] + body[place[1] :]).strip()
        and _written_before(body).get(_WHOLE) == _short_hash(head)
    )


def written_header(head: str) -> str:
    """What the end mark of our card notes of its header: the next push tells by it what we wrote from what people did.

    It holds a hash of the whole, and one for each key that is neither merged by its entries nor always ours.
    """
    header = _read(head)
    names = [name for name in header if name not in ("configs", "model-index", "dataset_info", *_UNITED)]
    return " ".join([f"{_WHOLE}={_short_hash(head)}", *(f"{name}={_digest(header, name)}" for name in names)])


def _written_before(body: str) -> dict[str, str]:
    place = _marked(body)
    marks = _END.findall(body, *place) if place else []
    return dict(_WROTE.findall(marks[-1])) if marks else {}


def _digest(header: _Header, name: str) -> str:
    return _short_hash(_meaning({name: header[name]}))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _split(card: str) -> tuple[str, str]:
    """The header with its two delimiters, empty where there is none, and the rest."""
    card = card.removeprefix("\ufeff")  # before a header it would hide it
    header = REGEX_YAML_BLOCK.match(card)
    return (card[: header.end()], card[header.end() :]) if header else ("", card)


def _marked(body: str) -> tuple[int, int] | None:
    """Where our part begins and ends, both marks included; a mark that lost its partner is no part."""
    for end in _END.finditer(body):
        if begins := list(_BEGIN.finditer(body, 0, end.start())):
            return begins[-1].start(), end.end()
    return None


def _merge_heads(our_head: str, their_head: str, newline: str, *, wrote: dict[str, str]) -> str:
    ours, theirs = _read(our_head), _read(their_head)
    old = {name for name in theirs if name in wrote and wrote[name] == _digest(theirs, name)}
    merged = _merge_headers(ours, theirs, old)
    if _meaning(merged) == _meaning(theirs):
        return their_head if not their_head or their_head.endswith("\n") else their_head + newline
    head = our_head if _meaning(merged) == _meaning(ours) else f"---\n{_dump(_mapping(merged))}---\n"
    return head.replace("\n", newline)


def _read(head: str) -> _Header:
    whose, remedy = "The header of the README.md that is there already", "Repair or remove it."
    block = REGEX_YAML_BLOCK.match(head)
    try:
        root = yaml.compose(block[2], Loader=yaml.SafeLoader) if block else None
    except yaml.YAMLError as error:
        raise InputError(f"{whose} is not YAML: {in_one_line(error, 300)}. {remedy}") from None
    except RecursionError:
        raise InputError(f"{whose} is nested too deeply. {remedy}") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode) or not all(isinstance(key, yaml.ScalarNode) for key, _ in root.value):
        raise InputError(f"{whose} must be a mapping of names. {remedy}")
    return {key.value: (key, value) for key, value in root.value}


def _mapping(header: _Header) -> yaml.Node:
    return yaml.MappingNode("tag:yaml.org,2002:map", list(header.values()), flow_style=False)


def _dump(node: yaml.Node) -> str:
    return yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=float("inf"))


def _meaning(header: _Header) -> str:
    """A text that does not depend on quotes, comments and layout."""
    return yaml.serialize(_mapping(header), Dumper=yaml.SafeDumper, canonical=True)


def _merge_headers(ours: _Header, theirs: _Header, old: set[str]) -> _Header:
    """The names in `old` hold what an earlier push of ours wrote: they are renewed, or go where we say nothing now."""
    merged: dict[str, yaml.Node | None] = {
        name: value for name, (_, value) in theirs.items() if name not in old or name in ours
    }
    for name, (_, value) in ours.items():
        if name in _UNITED:
            merged[name] = _united(theirs[name][1], value) if name in theirs else value
        elif name == "configs":
            merged[name] = _merge_configs(_items(value), _entries(theirs, name))
        elif name == "dataset_info":
            merged[name] = _merge_infos(_items(value), theirs[name][1] if name in theirs else None)
        elif name == "model-index":
            merged[name] = _merge_index(_items(value), _entries(theirs, name))
        elif name in _OURS or name in old or name not in theirs:
            merged[name] = value
    if "configs" in ours and "dataset_info" not in ours and (info := merged.get("dataset_info")):
        merged["dataset_info"] = _merge_infos([], info)
    if "model-index" in merged and "model-index" not in ours:
        merged["model-index"] = _merge_index([], _entries(theirs, "model-index"))
    keys = {name: key for name, (key, _) in (ours | theirs).items()}
    return {name: (keys[name], value) for name, value in merged.items() if value is not None}


def _united(theirs: yaml.Node, ours: yaml.Node) -> yaml.Node:
    items = _items(theirs)
    if isinstance(theirs, yaml.ScalarNode) and not theirs.tag.endswith(":null"):
        items = [theirs]  # `tags: flowers` stands for a list of one
    known = {item.value for item in items if isinstance(item, yaml.ScalarNode)}
    added = [item for item in _items(ours) if item.value not in known]
    return _list([*items, *added]) if added or not _items(theirs) else theirs


def _merge_configs(ours: Sequence[yaml.Node], theirs: Sequence[yaml.Node]) -> yaml.Node:
    # A config of the name "default" is the default one without saying so.
    if any(_text(entry, "config_name") == "default" for entry in theirs):
        ours = [_not_default(entry) for entry in ours]
    ours_by_name = {_text(entry, "config_name"): entry for entry in ours}
    merged = []
    for entry in theirs:
        name = _text(entry, "config_name")
        if name in ours_by_name:
            merged.append(ours_by_name.pop(name))
        elif not _is_our_config(entry):
            merged.append(_not_default(entry))
    return _list([*merged, *ours_by_name.values()])


def _is_our_config(entry: yaml.Node) -> bool:
    return OUR_CONFIG.fullmatch(_text(entry, "config_name") or "") is not None


def _merge_infos(ours: Sequence[yaml.Node], theirs: yaml.Node | None) -> yaml.Node | None:
    """`dataset_info` of our configs, and what theirs says of others: features of an earlier push make `load_dataset`
    fail.
    """
    # One entry may stand there without a list; it is that of the only config then.
    entries = [theirs] if isinstance(theirs, yaml.MappingNode) else [] if theirs is None else _items(theirs)
    named = {_text(entry, "config_name") for entry in ours}
    others = [entry for entry in entries if not _is_our_config(entry) and _text(entry, "config_name") not in named]
    if isinstance(theirs, yaml.MappingNode) and others and not ours:
        return theirs
    return _list([*others, *ours]) if others or ours else None


def _merge_index(ours: Sequence[yaml.Node], theirs: Sequence[yaml.Node]) -> yaml.Node | None:
    """`model-index` without the figures of an earlier push of ours, whatever name they had."""
    names = {_text(entry, "name") for entry in ours}
    others = [entry for entry in theirs if _text(entry, "name") not in names and AGREEMENT_METRIC not in _dump(entry)]
    return _list([*others, *ours]) if others or ours else None


def _entries(header: _Header, name: str) -> list[yaml.Node]:
    return _items(header[name][1]) if name in header else []


def _items(value: yaml.Node) -> list[yaml.Node]:
    return value.value if isinstance(value, yaml.SequenceNode) else []


def _text(entry: yaml.Node, key: str) -> str | None:
    pairs = entry.value if isinstance(entry, yaml.MappingNode) else []
    return next((v.value for k, v in pairs if k.value == key and isinstance(v, yaml.ScalarNode)), None)


def _not_default(entry: yaml.Node) -> yaml.Node:
    """A config without the key `default`."""
    if not isinstance(entry, yaml.MappingNode):
        return entry
    pairs = [pair for pair in entry.value if pair[0].value != "default"]
    return yaml.MappingNode(entry.tag, pairs, flow_style=entry.flow_style)


def _list(items: Iterable[yaml.Node]) -> yaml.Node:
    return yaml.SequenceNode("tag:yaml.org,2002:seq", list(items), flow_style=False)
