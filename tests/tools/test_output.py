"""Where -o and --export write: into what is no regular file, and journals for their owner only."""
import os
import stat
import threading

import pytest

from conftest import put, put_array

WAYS = ["journal export", "merge", "fork", "umount"]


@pytest.fixture
def array(mount):
    put_array(mount.main, "a", (10,), (1,))
    put(mount.main, "a/c/1", b"1")
    return mount


def write(m, way, out):
    if way == "umount":
        return m.umount("--export", out)
    args = {"journal export": ["journal", "export", m, "-o", out], "merge": ["merge", "-o", out, m], "fork": ["fork", m, "-o", out]}[way]
    return m.firn(*args)


@pytest.mark.parametrize("way", WAYS)
def test_pipe__written_into(array, tmp_path, way):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(array, way, pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join(10)
    [data] = got
    assert data.startswith(b"{" if way == "fork" else b"FIRNJ\r\n")


@pytest.mark.parametrize("way", WAYS)
def test_device__stays_what_it_is(array, tmp_path, way):
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    write(array, way, link)
    assert link.is_symlink() and stat.S_ISCHR(link.stat().st_mode)
    assert not [p for p in os.listdir(tmp_path) if p.startswith("link.")]


@pytest.mark.parametrize("way", WAYS)
def test_mode(array, tmp_path, way):
    write(array, way, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == (0o644 if way == "fork" else 0o600)
