"""Which files go to large file storage: what .gitattributes names, what is large, what is not text."""

import re


PATTERNS = (
    "7z arrow bin bz2 ckpt ftz gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl pt "
    "pth rar safetensors tar tflite tgz wasm xz zip zst avi flac gif jpeg jpg mp3 mp4 ogg pcm png tiff wav webm webp"
).split()
GITATTRIBUTES = "".join(f"*.{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in PATTERNS)
REGULAR_FILE_LIMIT = 10 * 2**20


def upload_mode(path: str, size: int, sample: bytes, attributes: str) -> str:
    """How the client must upload a file.

    Args:
        path: Path in the repository.
        size: Size in bytes.
        sample: The first bytes of the file.
        attributes: The text of .gitattributes.

    Returns:
        `str`: `lfs` or `regular`.
    """
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    name = path.rpartition("/")[2]
    by_name = any(re.fullmatch(re.escape(p).replace(r"\*", ".*"), name) for p in patterns)
    return "lfs" if size > 0 and (by_name or size > REGULAR_FILE_LIMIT or b"\0" in sample) else "regular"
