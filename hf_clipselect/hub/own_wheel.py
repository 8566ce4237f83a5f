"""This package as a wheel, made from what is installed: for a machine that can't get it from an index."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path


_NAME = "hf_clipselect"
# The earliest time that a zip file can hold: the same files make the same bytes, whenever they were installed.
_TIME = (1980, 1, 1, 0, 0, 0)
# What the package consists of; a checkout may hold anything else beside it, which is nobody's business.
_SUFFIXES = {".py", ".typed", ".md", ".html", ".css", ".js", ".csv", ".json", ".safetensors"}


def own_wheel() -> tuple[str, bytes]:
    """The file name of the wheel, `hf_clipselect-<version>-py3-none-any.whl`, and its content.

    It is the same for the same package, whether that was installed from a wheel or in place; pip installs it.
    """
    found = distribution(_NAME)
    info = f"{_NAME}-{found.version}.dist-info"
    files = _package_files() | {f"{info}/{name}": content for name, content in _info_files(found).items()}
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o644 << 16  # readable for all, as files of a new package are
            wheel.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return f"{_NAME}-{found.version}-py3-none-any.whl", buffer.getvalue()


def own_requirements() -> list[str]:
    """What the package needs, each as a line of a requirements.txt; extras are left out."""
    return sorted(line for line in distribution(_NAME).requires or () if "extra ==" not in line)


def _package_files() -> dict[str, bytes]:
    """The files of the package by their paths in a wheel, without links and what others keep beside them."""
    package = Path(__file__).parents[1]
    paths = (path.relative_to(package) for path in sorted(package.rglob("*")) if path.is_file())
    return {f"{_NAME}/{path.as_posix()}": (package / path).read_bytes() for path in paths if _is_ours(package, path)}


def _is_ours(package: Path, path: Path) -> bool:
    is_hidden = any(part.startswith(".") or part.endswith("~") for part in path.parts)
    is_link = any((package / place).is_symlink() for place in (path, *path.parents[:-1]))
    return path.suffix in _SUFFIXES and not is_hidden and not is_link


def _info_files(found: Distribution) -> dict[str, bytes]:
    """The files beside RECORD that describe a wheel; those that tell how this one was installed are left out."""
    texts = {name: found.read_text(name) for name in ("METADATA", "entry_points.txt")}
    licenses = [path for path in found.files or () if "licenses" in path.parts]
    return {
        **{name: text.encode() for name, text in texts.items() if text is not None},
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: {_NAME}\nRoot-Is-Purelib: true\nTag: py3-none-any\n".encode(),
        **{f"licenses/{path.name}": path.read_binary() for path in licenses},
    }


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
