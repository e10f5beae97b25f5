"""Archives that are damaged, made to harm, or none: a clear error or a counted drop, and nothing written elsewhere."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.bad_faces import FILES, OTHER, PICTURE, error_of
from tests.support.faces_on_disk import write_archive
from trainer.data import archives


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
@pytest.mark.parametrize("name", ["../30_0_0_20170101.jpg", "a/../../30_0_0_20170101.jpg", "/tmp/30_0_0_20170101.jpg"])
def test_paths_that_climb_out_of_an_archive(name, suffix, manifest_of, tmp_path):
    archive = write_archive(tmp_path / f"faces{suffix}", [*FILES.items(), (name, PICTURE)])
    before = {str(path) for path in tmp_path.rglob("*")}
    manifest = manifest_of(archive)
    assert manifest.at[name, "reason"] == "unsafe path in archive: it leaves the archive's folder"
    assert {str(path) for path in tmp_path.rglob("*")} == before
    assert not Path("/tmp/30_0_0_20170101.jpg").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar(kind, manifest_of, tmp_path):
    path = write_archive(tmp_path / "faces.tar", FILES.items())
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("30_0_0_20170101.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert manifest_of(path).at["30_0_0_20170101.jpg", "reason"].startswith("link or device in archive")


def test_link_in_a_zip(manifest_of, tmp_path):
    path = write_archive(tmp_path / "faces.zip", FILES.items())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("30_0_0_20170101.jpg")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert manifest_of(path).at["30_0_0_20170101.jpg", "reason"].startswith("link or device in archive")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_one_damaged_picture_in_a_zip(method, manifest_of, tmp_path):
    name, path = "30_0_0_20170101.jpg", tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for member, content in [(name, OTHER), *FILES.items()]:
            archive.writestr(member, content)
    whole = bytearray(path.read_bytes())
    start = len(name) + 60  # within the first member's content, which begins 30 bytes after its name
    whole[start : start + 40] = bytes(40)
    path.write_bytes(whole)
    manifest = manifest_of(path)
    assert manifest.at[name, "reason"].startswith("unreadable")
    assert manifest["kept"].sum() == len(FILES)


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_bombs(suffix, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SPARE_BYTES", 0)
    path = tmp_path / f"faces{suffix}"
    bomb = [(f"{i}_0_0_20170101.jpg", bytes(4 * 2**20)) for i in range(20, 26)]
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in bomb:
                archive.writestr(name, content)
    else:
        write_archive(path, bomb)
    assert "expands to more than 200 times its size, like a decompression bomb" in error_of(path, cache)


def test_a_member_too_large_is_dropped(manifest_of, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 100_000)
    path = write_archive(tmp_path / "faces.tar", [*FILES.items(), ("30_0_0_20170101.jpg", bytes(100_001))])
    assert manifest_of(path).at["30_0_0_20170101.jpg", "reason"] == "too large: 100001 bytes, at most 100000 are read"


def test_an_encrypted_or_damaged_zip_member_is_dropped(manifest_of, tmp_path):
    path = write_archive(tmp_path / "faces.zip", [("30_0_0_20170101.jpg", PICTURE), *FILES.items()])
    content = bytearray(path.read_bytes())
    content[80] ^= 0xFF  # inside the first member, whose checksum now is wrong
    path.write_bytes(content)
    assert manifest_of(path).at["30_0_0_20170101.jpg", "reason"].startswith("unreadable: Bad CRC-32")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("faces.tar.gz", b"", "cannot be read as an archive"),
        ("faces.tgz", b"no archive at all", "cannot be read as an archive"),
        ("faces.zip", b"no archive at all", "cannot be read as an archive"),
        ("faces.jpg", PICTURE, "is a single file: expected a folder, a .tar.gz"),
        ("faces.rar", b"Rar!", "is a single file: expected a folder, a .tar.gz"),
    ],
)
def test_files_that_are_not_archives(name, content, message, cache, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert message in error_of(tmp_path / name, cache)


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_a_truncated_archive(suffix, cache, tmp_path):
    path = write_archive(tmp_path / f"faces{suffix}", FILES.items())
    path.write_bytes(path.read_bytes()[:-3000])
    assert "is the download complete?" in error_of(path, cache)
