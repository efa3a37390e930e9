"""Archives are unpacked as they were packed; what would reach beyond the folder is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tritonpy.supervisor.environments import archive
from tritonpy.supervisor.environments.failure import EnvironmentFailure

Entry = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"text", mode: int = 0o644) -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, 1_000_000_000
    return info, data


def special(name: str, kind: bytes, target: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o777
    return info, b""


def link(name: str, target: str) -> Entry:
    return special(name, tarfile.SYMTYPE, target)


def tar(entries: Sequence[Entry]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as writer:
        for info, data in entries:
            writer.addfile(info, io.BytesIO(data))
    return packed.getvalue()


class Place:
    """A folder beside which nothing may be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = path / "in" / "tree"
        self.target.mkdir(parents=True)
        self.archive = path / "packed"

    def unpack(self, content: bytes) -> Path:
        self.archive.write_bytes(content)
        try:
            archive.extract(str(self.archive), str(self.target), threading.Event())
        finally:
            outside = {path.name for path in self.path.iterdir()} | {
                path.name for path in (self.path / "in").iterdir()
            }
            assert outside == {"in", "tree", "packed"}
        return self.target


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_is_unpacked_however_it_is_compressed(
    place: Place, compress: Callable[[bytes], bytes]
) -> None:
    content = tar(
        [file("./bin/tool", b"x" * 3_000_000, 0o755), file("lib/a.py"), file("empty", b"")]
    )

    target = place.unpack(compress(content))

    assert (target / "bin" / "tool").stat().st_size == 3_000_000
    assert (target / "bin" / "tool").stat().st_mode & 0o777 == 0o755
    assert (target / "lib" / "a.py").read_bytes() == b"text"
    assert (target / "lib" / "a.py").stat().st_mtime == 1_000_000_000
    assert (target / "lib" / "a.py").stat().st_mode & 0o777 == 0o644
    assert (target / "empty").read_bytes() == b""


def test_links_inside_of_an_archive_are_kept(place: Place) -> None:
    entries = [
        file("bin/python3.11"),
        link("bin/python", "python3.11"),
        link("share/up", "../bin/python"),
        link("lib64", "lib"),
        link("dangling", "share/missing"),
        special("bin/hard", tarfile.LNKTYPE, "bin/python3.11"),
    ]

    target = place.unpack(tar(entries))

    assert (target / "bin" / "python").read_bytes() == b"text"
    assert os.readlink(target / "share" / "up") == "../bin/python"
    assert (target / "bin" / "hard").stat().st_ino == (target / "bin" / "python3.11").stat().st_ino


def test_of_two_members_of_a_name_the_later_counts(place: Place) -> None:
    entries = [file("a", b"old"), link("a", "b"), file("b", b"kept"), file("a", b"new")]

    target = place.unpack(tar(entries))

    assert (target / "a").read_bytes() == b"new"
    assert (target / "b").read_bytes() == b"kept"


def test_nobody_is_given_the_rights_of_others(place: Place) -> None:
    target = place.unpack(tar([file("su", mode=0o6777)]))

    assert (target / "su").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([file("../evil")], "'../evil', which leads out of its folder"),
        ([file("bin/../../evil")], "which leads out of its folder"),
        ([file("/evil")], "'/evil', which leads out of its folder"),
        ([link("a", "/etc")], "the link 'a' leads out of it, to '/etc'"),
        ([link("a", "../..")], "the link 'a' leads out of it, to '../..'"),
        ([link("l", "."), link("e", "l/l/../..")], "the link 'e' leads out of it"),
        ([file("d/f"), link("e", "d/../.."), file("z")], "the link 'e' leads out of it"),
        ([link("a", "b"), file("a/evil")], "'a/evil' lies below 'a', which is no folder"),
        ([file("a"), file("a/b")], "'a/b' lies below 'a', which is no folder"),
        ([link("a", "."), special("a", tarfile.DIRTYPE)], "'a' is a folder and something else"),
        ([file("a/b"), file("a")], "'a' is a folder and something else"),
        ([special("a", tarfile.LNKTYPE, "/etc/passwd")], "the link 'a' leads out of it"),
        ([special("a", tarfile.LNKTYPE, "../packed")], "which leads out of its folder"),
        ([link("s", "x"), special("a", tarfile.LNKTYPE, "s")], "which is no file that came before"),
        ([special("a", tarfile.LNKTYPE, "b"), file("b")], "which is no file that came before"),
        ([special("null", tarfile.CHRTYPE)], "'null' is a device or something as special"),
        ([special("disk", tarfile.BLKTYPE)], "'disk' is a device or something as special"),
        ([special("pipe", tarfile.FIFOTYPE)], "'pipe' is a device or something as special"),
        ([file(".")], "which is no name of a file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_reach_beyond_the_folder_is_refused(
    place: Place, entries: list[Entry], complaint: str
) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        place.unpack(tar(entries))

    assert complaint in str(caught.value)


def test_an_archive_that_would_fill_the_disk_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED_BYTES", 100_000)
    bomb = gzip.compress(tar([file("zeros", bytes(50_000_000))]))

    with pytest.raises(EnvironmentFailure, match="unpacked it has more than"):
        place.unpack(bomb)

    written = sum(path.stat().st_size for path in place.target.rglob("*"))
    assert written <= max(len(bomb) * archive.MOST_TIMES_LARGER, 100_000)


def test_a_header_that_would_fill_the_memory_is_refused(place: Place) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40

    with pytest.raises(EnvironmentFailure, match="one of its headers claims to have"):
        place.unpack(header.tobuf(tarfile.GNU_FORMAT))


def test_an_archive_with_more_files_than_any_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_MEMBERS", 2)

    with pytest.raises(EnvironmentFailure, match="it holds more than 2 files"):
        place.unpack(tar([file("a"), file("b"), file("c")]))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"neither packed nor compressed", "it is no tar archive, or a broken one"),
        (b"", "it is no tar archive, or a broken one"),
        (gzip.compress(b"not packed"), "it is no tar archive, or a broken one"),
        (gzip.compress(tar([file("a", os.urandom(9999))]))[:-500], "it is no tar archive, or a"),
        (gzip.compress(b"x")[:8] + b"\xff\xff\xff", "it is no tar archive, or a broken one"),
        (tar([file("a", bytes(9999))])[:5000], "it is no tar archive, or a broken one"),
        (b"\x28\xb5\x2f\xfd rest", "compressed by zstd"),
    ],
)
def test_what_is_no_archive_is_refused(place: Place, content: bytes, complaint: str) -> None:
    with pytest.raises(EnvironmentFailure, match=complaint):
        place.unpack(content)


def test_unpacking_ends_when_nobody_wants_it_any_more(place: Place) -> None:
    place.archive.write_bytes(tar([file("a"), file("b")]))
    stop = threading.Event()
    stop.set()

    with pytest.raises(EnvironmentFailure, match="does not need it any more"):
        archive.extract(str(place.archive), str(place.target), stop)
