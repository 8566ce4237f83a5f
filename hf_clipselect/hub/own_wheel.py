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
    """The files of the package by their paths in a wheel, without those that Python compiled."""
    package = Path(__file__).parents[1]
    paths = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{_NAME}/{path.relative_to(package).as_posix()}": path.read_bytes() for path in paths}


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
