"""Single files, lists of files, folders in folders, zip files and URLs, as `--dataset_name` and `--data_files` take
them.
"""

import base64
import functools
import http.server
import io
import json
import shutil
import tarfile
import threading
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from folders import by_folder, message_of, png, rows_of, write_images

from hf_clipselect.cli import main
from hf_clipselect.config.arguments import Arguments
from hf_clipselect.data.source import load_source
from hf_clipselect.pipeline.provenance import _without_secrets


PETS = [f"{name}/{row}.png" for name in ("cat", "dog") for row in range(3)]


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def shades_of(dataset: Dataset) -> list[tuple[int, str]]:
    names = dataset.features["label"].names
    return [(row["image"].getpixel((0, 0))[0], names[row["label"]]) for row in dataset]


class TestFiles:
    def test_a_file_of_each_kind(self, tmp_path, images_dataset):
        images_dataset.to_parquet(tmp_path / "test [1].parquet")
        images_dataset.save_to_disk(tmp_path / "disk")
        shutil.copy(next((tmp_path / "disk").glob("*.arrow")), tmp_path / "rows.arrow")
        table = Dataset.from_dict({"path": ["a.png", "b.png", "c.png"], "label": ["x", "y", "x"]})
        table.to_csv(tmp_path / "rows.csv")
        table.to_csv(tmp_path / "rows.tsv", sep="\t")
        table.to_json(tmp_path / "rows.jsonl")
        table.to_json(tmp_path / "rows.JSON")
        with tarfile.open(tmp_path / "shard.tar", "w") as archive:
            for row in range(3):
                for name, content in ((f"{row}.png", png(row)), (f"{row}.cls", str(row % 2).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        for name, num_rows in {"test [1].parquet": 60, "rows.arrow": 60, "shard.tar": 3}.items():
            dataset, source = load_source(str(tmp_path / name))
            assert (len(dataset), source.name, source.split) == (num_rows, str(tmp_path / name), "train")
        for name in ("rows.csv", "rows.tsv", "rows.jsonl", "rows.JSON"):
            dataset, source = load_source(str(tmp_path / name))
            assert dataset["label"][:] == ["x", "y", "x"]
            assert source.paths_relative_to == str(tmp_path)
            assert "paths_relative_to" not in source.to_dict()
        assert message_of(load_source, str(tmp_path / "rows.csv"), split="test").endswith("has the splits train.")
        (tmp_path / "rows.npz").write_bytes(b"x")
        message = message_of(load_source, str(tmp_path / "rows.npz"))
        assert "rows.npz is none of the files that can be read: .parquet, .csv" in message
        (tmp_path / "rows.csv").write_text("path,label\nz.png,z\n")
        assert load_source(str(tmp_path / "rows.csv"))[0]["label"][:] == ["z"]

    def test_data_files(self, tmp_path, images_dataset, monkeypatch):
        for number in range(3):
            images_dataset.select([number]).to_parquet(tmp_path / "rows" / f"train-{number}.parquet")
        images_dataset.select(range(9)).to_parquet(tmp_path / "rows" / "[0].parquet")
        monkeypatch.chdir(tmp_path)
        for files, num_rows in [
            (["rows/*.parquet"], 12),
            ([f"{tmp_path}/rows/train-[01].parquet"], 2),
            (["rows/train-0.parquet", "rows/train-0.parquet", "rows/train-*.parquet"], 3),
            (["rows/[0].parquet"], 9),
            ([f"file://{tmp_path}/**/train-2.parquet"], 1),
        ]:
            for name in ("", "parquet"):
                dataset, source = load_source(name, data_files=files)
                assert (len(dataset), source.name[:1]) == (num_rows, "/")
        assert len(load_source("rows", data_files=["train-0.parquet"])[0]) == 1
        assert len(load_source(".", data_dir="rows", data_files=["train-0.parquet"])[0]) == 1
        (tmp_path / "rows" / "more.csv").write_text("a,label\n1,2\n")
        assert "all files must be of one kind" in message_of(load_source, "rows", data_files=["*"])
        assert "--data_files no-* names no file in rows" in message_of(load_source, "rows", data_files=["no-*"])
        assert "--data_files '' is no name of a file" in message_of(load_source, "rows", data_files=[""])
        assert "names folders alone, such as rows; for the files in them give r*/*" in message_of(
            load_source, "", data_files=["r*"]
        )
        assert "--data_files rows is a folder" in message_of(load_source, "", data_files=["rows"])
        assert "--data_files" in message_of(load_source, "rows/more.csv", data_files=["x.csv"])

    def test_data_dir_and_names_of_readers(self, tmp_path):
        folder = write_images(tmp_path / "in" / "pets", PETS)
        for name in (str(tmp_path / "in"), "imagefolder"):
            data_dir = "pets" if name != "imagefolder" else str(folder)
            assert rows_of(load_source(name, data_dir=data_dir)[0], folder) == by_folder(PETS)
        assert "has no such folder" in message_of(load_source, str(tmp_path / "in"), data_dir="birds")
        assert "name its folder with --data_dir" in message_of(load_source, "imagefolder")

    def test_flags_that_do_not_fit(self, tmp_path):
        folder = str(write_images(tmp_path, PETS))
        assert "--dataset_revision v1 is for datasets on the Hub" in message_of(load_source, folder, revision="v1")
        assert "--storage_options is for URLs" in message_of(load_source, folder, storage_options='{"a": 1}')
        for flag, value in {"revision": "v1", "data_dir": "x", "storage_options": '{"a": "b"}'}.items():
            assert "is in the package" in message_of(load_source, "embedded/digits", **{flag: value})


class TestTables:
    def test_a_split_word_in_one_name_hides_no_file(self, tmp_path, images_dataset, caplog):
        images_dataset.select(range(9)).to_parquet(tmp_path / "train_station.parquet")
        images_dataset.select(range(6)).to_parquet(tmp_path / "beach.parquet")
        message = message_of(load_source, str(tmp_path))
        assert message.startswith(f"1 of 2 data files in {tmp_path} would not be read: ")
        assert "--data_files" in message and "beach.parquet" in message and "--allow_unread_files" in message
        assert len(load_source(str(tmp_path), allow_unread_files=True)[0]) == 9
        assert "beach.parquet" in caplog.messages[0]
        assert len(load_source(str(tmp_path), data_files=["*.parquet"])[0]) == 15
        (tmp_path / "beach.parquet").unlink()
        (tmp_path / "train_gone.parquet").symlink_to(tmp_path / "gone")
        assert "train_gone.parquet (a link to nothing)" in message_of(load_source, str(tmp_path))

    def test_a_part_without_rows_hides_no_row(self, tmp_path, images_dataset):
        images_dataset.select([]).to_parquet(tmp_path / "rows" / "a.parquet")
        images_dataset.to_parquet(tmp_path / "rows" / "b.parquet")
        pq.write_table(images_dataset.data.table.slice(0, 0), tmp_path / "rows" / "c.parquet")
        assert len(load_source(str(tmp_path / "rows"))[0]) == len(images_dataset)
        (tmp_path / "rows.csv").write_text("path,label\n")
        for name in ("rows/a.parquet", "rows/c.parquet", "rows.csv"):
            assert message_of(load_source, str(tmp_path / name)).endswith("can't be loaded: it holds no row.")

    def test_what_no_reader_can_decode(self, tmp_path):
        (tmp_path / "rows.csv").write_bytes("path,label\na.png,é\n".encode("latin-1"))
        assert "Text must be UTF-8" in message_of(load_source, str(tmp_path / "rows.csv"))
        for suffix, told in {"pth": "it holds a pickle that is torn, or could run code", "npz": "ValueError"}.items():
            with tarfile.open(tmp_path / "shard.tar", "w") as archive:
                for name, content in (("1.png", png(1)), (f"1.{suffix}", b"\xff\0{")):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            message = message_of(load_source, str(tmp_path / "shard.tar"))
            assert "can't be loaded" in message and told in message and "weights_only" not in message

    def test_urls_of_files_here(self, tmp_path, monkeypatch):
        for name in ("a b", "c%20d"):
            folder = write_images(tmp_path / name, PETS)
            for url in {folder.as_uri(), f"file://{folder}", f"file://localhost{folder}", f"file:{folder}"}:
                assert rows_of(load_source(url)[0], folder) == by_folder(PETS)
                assert rows_of(load_source("", data_files=[f"{url}/*/*.png"])[0], folder) == by_folder(PETS)

    def test_linked_folders_and_pictures_beside_rows(self, tmp_path, images_dataset, caplog):
        DatasetDict(train=images_dataset, test=images_dataset.select(range(6))).save_to_disk(tmp_path / "unused")
        images_dataset.to_parquet(tmp_path / "store" / "train-0.parquet")
        images_dataset.select(range(6)).to_parquet(tmp_path / "store" / "test-0.parquet")
        (tmp_path / "rows").mkdir()
        (tmp_path / "rows" / "data").symlink_to(tmp_path / "store")
        write_images(tmp_path / "rows", ["banner.png"])
        assert [len(load_source(str(tmp_path / "rows"), split=split)[0]) for split in ("train", "test")] == [60, 6]
        assert f"{tmp_path / 'rows'}: images beside tables are not read: banner.png." in caplog.messages


class TestZips:
    def test_folder_of_zips_and_one_zip(self, tmp_path, caplog):
        members = {path: png(shade) for shade, path in enumerate(PETS)}
        folder = tmp_path / "zipped"
        folder.mkdir()
        train = zip_of(folder / "train.zip", {**members, "__MACOSX/cat/._0.png": b"x"})
        expected = [(shade, Path(path).parent.name) for shade, path in enumerate(PETS)]
        for name in (folder, train):
            dataset, source = load_source(str(name))
            assert (shades_of(dataset), source.name) == (expected, str(name))
        zip_of(folder / "test.zip", {f"pets/{path}": content for path, content in members.items() if "0" in path})
        assert [len(load_source(str(folder), split=split)[0]) for split in ("train", "test")] == [6, 2]
        zip_of(train, {path: content for path, content in members.items() if "2" not in path})
        assert len(load_source(str(folder))[0]) == 4
        told = zip_of(tmp_path / "told.zip", {"1.png": png(1), "metadata.csv": b"file_name,label\n1.png,x\n"})
        assert load_source(str(told))[0]["label"][:] == ["x"]
        classes = tmp_path / "classes"
        classes.mkdir()
        for name in ("cat", "dog"):
            zip_of(classes / f"{name}.zip", {"1.png": png(1), "2.png": png(2)})
        assert [label for _, label in shades_of(load_source(str(classes))[0])] == ["cat", "cat", "dog", "dog"]
        write_images(classes, PETS)
        assert len(load_source(str(classes))[0]) == 6
        assert "files beside class folders are not read: cat.zip, dog.zip" in caplog.messages[-1]

    def test_names_of_zips_that_are_given_are_no_splits(self, tmp_path, images_dataset):
        expected = {"cat": [0, 1], "test": [10, 11]}
        for name, shades in expected.items():
            zip_of(tmp_path / f"{name}.zip", {f"{shade}.png": png(shade) for shade in shades})
        both = [str(tmp_path / f"{name}.zip") for name in expected]
        assert shades_of(load_source("", data_files=both)[0]) == [
            (s, name) for name in expected for s in expected[name]
        ]
        test = zip_of(tmp_path / "pets" / "test.zip", {path: png(shade) for shade, path in enumerate(PETS)})
        assert [shade for shade, _ in shades_of(load_source(str(test))[0])] == list(range(6))
        for name in ("train", "test"):
            images_dataset.to_parquet(tmp_path / "rows" / "x.parquet")
            zip_of(
                tmp_path / "rows" / f"{name}.zip", {f"{name}.parquet": (tmp_path / "rows" / "x.parquet").read_bytes()}
            )
        parts = [str(tmp_path / "rows" / f"{name}.zip") for name in ("train", "test")]
        assert len(load_source("", data_files=parts)[0]) == 2 * len(images_dataset)

    def test_names_that_can_not_be_unpacked(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
            archive.writestr("cat/1.png", png(1))
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("cat/1.png", png(2))
        assert "holds cat/1.png more than once" in message_of(load_source, str(tmp_path / "twice.zip"))
        for name, members in {"both": ["cat/1.png", "cat"], "long": [f"cat/{'x' * 300}.png"]}.items():
            path = zip_of(tmp_path / f"{name}.zip", dict.fromkeys(members, png(1)))
            assert f"{path} can't be unpacked (" in message_of(load_source, str(path))
        empty = zip_of(tmp_path / "empty.zip", {})
        assert f"{empty} can't be loaded: it doesn't contain any data files" in message_of(load_source, str(empty))

    def test_broken(self, tmp_path):
        (tmp_path / "torn.zip").write_bytes(b"PK\3\4 and no more")
        message = message_of(load_source, str(tmp_path / "torn.zip"))
        assert "torn.zip can't be unpacked" in message and "unpack it yourself" in message
        for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            path = tmp_path / f"damaged-{method}.zip"
            with zipfile.ZipFile(path, "w", method) as archive:
                archive.writestr("cat/1.png", bytes(range(256)) * 40)
            content = bytearray(path.read_bytes())
            content[60:90] = b"\xff" * 30
            path.write_bytes(content)
            assert path.name in message_of(load_source, str(path))


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    for shade, path in enumerate(PETS):
        system.pipe(f"/bucket/pets/{path}", png(shade))
    system.pipe("/bucket/csv/rows.csv", b"path,label\na.png,x\nb.png,y\n")
    yield system
    system.rm("/bucket", recursive=True)


class TestUrls:
    def test_folders_files_and_patterns(self, memory, tmp_path, monkeypatch):
        dataset, source = load_source("memory://bucket/pets")
        assert [label for _, label in shades_of(dataset)] == ["cat"] * 3 + ["dog"] * 3
        assert source.name == "memory://bucket/pets"
        again = load_source("memory://bucket/pets", storage_options='{"key": "hush-hush"}')[1]
        assert again.fingerprint == source.fingerprint
        assert len(load_source("memory://bucket", data_dir="pets")[0]) == 6
        assert len(load_source("", data_files=["memory://bucket/pets/*/0.png"])[0]) == 2
        assert len(load_source("memory://bucket/pets", data_files=["*/0.png", "*/1.png"])[0]) == 4
        dataset, source = load_source("memory://bucket/csv/rows.csv")
        assert (len(dataset), source.paths_relative_to) == (2, "memory://bucket/csv")
        memory.pipe("/bucket/pets/cat/9.png", png(9))
        memory.pipe("/bucket/pets/dog/0.png", png(77))
        assert shades_of(load_source("memory://bucket/pets")[0])[3:5] == [(9, "cat"), (77, "dog")]
        memory.pipe("/bucket/pets/cover.png", png(9))
        assert "1 of 8 image files in memory://bucket/pets" in message_of(load_source, "memory://bucket/pets")
        for missing in ("memory://bucket/none", "memory://bucket/none/*.csv"):
            assert missing in message_of(load_source, missing)
        folder = write_images(tmp_path / "home" / "pets", PETS)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        for name in ("~/pets", f"file://{folder}"):
            dataset, source = load_source(name)
            assert rows_of(dataset, folder) == by_folder(PETS)
            assert source.name == str(folder)

    @pytest.mark.parametrize(("protocol", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
    def test_missing_package_is_named(self, protocol, package, extra):
        if find_spec(package) is not None:
            pytest.skip(f"{package} is installed")
        message = message_of(load_source, f"{protocol}://bucket/pets", storage_options='{"key": "hush-hush"}')
        assert f"pip install 'hf_clipselect[{extra}]'" in message
        assert "not known" in message_of(load_source, "nowhere://bucket/pets")

    def test_storage_options_that_can_not_be_read(self):
        for text in ("{hush", '["hush"]', '"hush"', "{'key': 'hush'}"):
            message = message_of(load_source, "memory://bucket", storage_options=text)
            assert message.startswith("--storage_options must be a JSON object") and "hush" not in message
        message = message_of(load_source, "memory://bucket", storage_options='{"key": null, "secret": null}')
        assert message.startswith("--storage_options has no value for key, secret")


SECRETS = ("p4ssw0rd", "s1gnature", "t0pkey")


class _Guarded(http.server.SimpleHTTPRequestHandler):
    """Files for those who know all three secrets."""

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def _answer(self, answer: Any) -> None:
        login = base64.b64encode(f"me:{SECRETS[0]}".encode()).decode()
        knows = self.headers.get("Authorization") == f"Basic {login}" and self.headers.get("X-Key") == SECRETS[2]
        if not knows or f"sig={SECRETS[1]}" not in self.path:
            self.send_error(403)
        else:
            self.path = self.path.partition("?")[0]
            answer()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def guarded(tmp_path, images_dataset):
    """Address of a server of one file, rows.parquet."""
    images_dataset.to_parquet(tmp_path / "served" / "rows.parquet")
    handler = functools.partial(_Guarded, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def options_with(key: str) -> str:
    return json.dumps({"client_kwargs": {"headers": {"X-Key": key}}})


class TestSecrets:
    def test_no_error_and_no_name_tells_them(self, guarded):
        url = f"http://me:{SECRETS[0]}@{guarded}/rows.parquet?sig={SECRETS[1]}&se=2030"
        dataset, source = load_source(url, storage_options=options_with(SECRETS[2]))
        assert (len(dataset), source.name) == (60, f"http://{guarded}/rows.parquet")
        assert len(load_source("", data_files=[url], storage_options=options_with(SECRETS[2]))[0]) == 60
        for name, options in [
            (url.replace("rows", "none"), options_with(SECRETS[2])),
            (url, options_with("t0pkey-of-another")),
            (url.replace("127.0.0.1", "nowhere.invalid"), options_with(SECRETS[2])),
            (url, json.dumps({"client_kwargs": {"connector": SECRETS[2]}})),
            (url, json.dumps({SECRETS[2]: 1, "client_kwargs": SECRETS[2]})),
        ]:
            for call in ({"name": name}, {"name": "", "data_files": [name]}):
                message = message_of(load_source, **call, storage_options=options)
                assert not [secret for secret in SECRETS[:2] if secret in message], message
                assert f": {SECRETS[2]}" not in message and f"'{SECRETS[2]}-of" not in message

    @pytest.mark.parametrize("name", ["dataset_name", "data_dir"])
    def test_settings_are_kept_without_them(self, name):
        url = f"http://me:{SECRETS[0]}@host/rows.parquet?sig={SECRETS[1]}"
        assert (
            _without_secrets(Arguments.from_dict({"dataset_name": "parquet", name: url}))[name]
            == "http://host/rows.parquet"
        )

    @pytest.mark.slow
    def test_no_output_keeps_them_and_a_run_goes_on_with_them(
        self, guarded, tmp_path, clip_folder, capfd, monkeypatch
    ):
        url = f"http://me:{SECRETS[0]}@{guarded}/rows.parquet?sig={SECRETS[1]}"
        secrets = ["--dataset_name", url, "--storage_options", options_with(SECRETS[2])]
        flags = ["--adaptation", "off", "--dataloader_num_workers", "0", "--use_cpu"]
        # Signs of patterns in the folder that the command runs in, and in the one that it writes.
        monkeypatch.chdir(write_images(tmp_path / "run[0.3]", ["x.png"]))
        out = "o*?\"'[1] #%20=é"
        first = ["select", *secrets, *flags, "--model_name_or_path", str(clip_folder), "--output_dir", out]
        assert main(first) == 0
        printed = capfd.readouterr()
        line = next(line for line in printed.out.splitlines() if line.startswith("subset: "))
        from datasets import load_dataset  # noqa: F401

        from hf_clipselect import SelectionResult, load_pruned

        subset = eval(line.removeprefix("subset: "))
        assert len(subset) == len(load_pruned(out, ratio=0.3)) == len(SelectionResult.from_folder(out).selected) == 18
        assert subset.features == load_pruned(out, ratio=0.3).features
        told = [printed.out, printed.err]
        told += [path.read_bytes().decode(errors="replace") for path in Path(out).rglob("*") if path.is_file()]
        assert not [text for text in told for secret in SECRETS if secret in text]
        config = f"{out}/config.yaml"
        assert "client_kwargs" in Path(config).read_text()
        assert main(["select", "--config", config, *flags]) == 2
        assert "--storage_options has no value for client_kwargs" in capfd.readouterr().err
        features = {path: path.stat().st_mtime_ns for path in Path(out, "features").glob("*.safetensors")}
        assert main(["select", "--config", config, *flags, *secrets]) == 0
        assert features == {path: path.stat().st_mtime_ns for path in Path(out, "features").glob("*.safetensors")}
        capfd.readouterr()
        assert main(["select", "--storage_option", options_with(SECRETS[2]), "--dataset_nam", url]) == 2
        err = capfd.readouterr().err
        assert "unrecognized arguments" in err and not [secret for secret in SECRETS if secret in err]
