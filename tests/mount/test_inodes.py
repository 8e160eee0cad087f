"""The kernel is not let remember any number of changed files, and nobody notices."""
import mmap
import os
import random
import threading
import time

import pytest

from conftest import PATIENCE, assert_committed, put_array, replaced

FEW = 64


@pytest.fixture
def mount(repo, mounts):
    m = mounts.enter_context(repo.mount("-o", f"inodes={FEW}"))
    put_array(m.main, "a", (40, 100), (1, 1))
    return m


def gauge(m, what):
    return int(next(line for line in m.control("stats").splitlines() if line.startswith(f"firn_{what} ")).split()[1])


def settles(m, limit):
    end = time.monotonic() + 20 * PATIENCE
    while gauge(m, "inodes") > limit:
        assert time.monotonic() < end, gauge(m, "inodes")
        time.sleep(0.01)


def content(i, j):
    return b"%d %d" % (i, j) * (1 + (i * j) % 3 * 400)      # inline, and parts of objects


def write(root, i, j):
    """As zarr-python does, and as others do."""
    path = root / f"a/c/{i}/{j}"
    if j % 2:
        path.write_bytes(content(i, j))
    else:
        (path.parent / f"{j}.0123.partial").write_bytes(content(i, j))
        os.rename(path.parent / f"{j}.0123.partial", path)


def fill(m, rows=range(40)):
    for i in rows:
        os.makedirs(m.main / f"a/c/{i}", exist_ok=True)
        for j in range(100):
            write(m.main, i, j)


def check(m, rows=range(40)):
    for i in rows:
        assert sorted(int(e.name) for e in os.scandir(m.main / f"a/c/{i}")) == list(range(100))
        for j in range(100):
            assert (m.main / f"a/c/{i}/{j}").read_bytes() == content(i, j), (i, j)


def test_written_and_read__only_some_are_remembered(repo, mount):
    fill(mount)
    settles(mount, 2 * FEW + 50)                # and 43 directories
    check(mount)
    settles(mount, 2 * FEW + 50)
    mount.commit("filled")
    check(mount)
    assert_committed(repo, mount.main)


def test_listed_with_attributes__only_some_are_remembered(mount):
    fill(mount)
    for _ in range(2):
        for i in range(40):
            assert all(e.stat().st_size == len(content(i, int(e.name))) for e in os.scandir(mount.main / f"a/c/{i}"))
    settles(mount, 2 * FEW + 50)


def test_forgotten_files__have_the_number_they_had(mount):
    fill(mount, range(10))
    numbers = {(i, j): os.stat(mount.main / f"a/c/{i}/{j}").st_ino for i in range(10) for j in range(100)}
    assert len(set(numbers.values())) == 1000
    fill(mount, range(10, 20))
    for (i, j), number in numbers.items():
        assert os.stat(mount.main / f"a/c/{i}/{j}").st_ino == number


def test_open_and_mapped_files__stay(mount):
    fill(mount, range(2))
    readers = [open(mount.main / f"a/c/0/{j}", "rb") for j in range(100)]
    writers = [open(mount.main / f"a/c/2-{j}.partial", "w+b") for j in range(20)]
    edited = [open(mount.main / f"a/c/1/{j}", "r+b") for j in range(100)]
    mapped = mmap.mmap(readers[5].fileno(), 0, access=mmap.ACCESS_READ)
    fill(mount, range(10, 30))
    for j, f in enumerate(readers):
        assert f.read() == content(0, j)
        assert os.readlink(f"/proc/self/fd/{f.fileno()}").endswith(f"/a/c/0/{j}")
        assert os.path.samestat(os.fstat(f.fileno()), os.stat(mount.main / f"a/c/0/{j}"))
    readers[5].close()
    fill(mount, range(30, 40))
    assert mapped[:] == content(0, 5)
    mapped.close()
    for j, f in enumerate(edited):
        f.write(b"E")
        f.close()
        assert (mount.main / f"a/c/1/{j}").read_bytes() == b"E" + content(1, j)[1:]
    for j, f in enumerate(writers):
        f.write(b"%d" % j)
        f.close()
        assert (mount.main / f"a/c/2-{j}.partial").read_bytes() == b"%d" % j
    for f in readers:
        f.close()


def test_what_is_no_chunk_yet__stays(mount):
    """Scratch files and documents live in the mount only, or hold more than their record."""
    for i in range(3 * FEW):
        (mount.main / f"note-{i}").write_bytes(b"%d" % i)
        (mount.main / f"g{i}").mkdir()
        put_array(mount.main, f"g{i}/b", (1,), (1,))
    fill(mount, range(5))
    assert [(mount.main / f"note-{i}").read_bytes() for i in range(3 * FEW)] == [b"%d" % i for i in range(3 * FEW)]
    assert all(b'"array"' in (mount.main / f"g{i}/b/zarr.json").read_bytes() for i in range(3 * FEW))


def test_after_a_restart(mount):
    fill(mount, range(10))
    replaced(mount)
    check(mount, range(10))
    fill(mount, range(10, 20))
    replaced(mount)
    check(mount, range(20))
    settles(mount, 4 * FEW + 50)


@pytest.mark.sanitize
def test_many_at_once(repo):
    """Threads write, replace, look at, rename and remove in the same directories, with hardly anything remembered."""
    with repo.mount("-o", "inodes=8") as m:
        put_array(m.main, "a", (8, 400), (1, 1))
        wrong, models = [], [{} for _ in range(8)]
        for row in range(2):
            os.makedirs(m.main / f"a/c/{row}")

        def run(me):
            rng, model = random.Random(me), models[me]
            mine = [(row, j) for row in range(2) for j in range(me, 400, 8)]
            for step in range(300):
                row, j = rng.choice(mine)
                path, what = m.main / f"a/c/{row}/{j}", rng.random()
                data = b"%d %d" % (me, step) * rng.choice([1, 300])
                try:
                    if what < 0.4:
                        path.write_bytes(data)
                        model[row, j] = data
                    elif what < 0.6:
                        (path.parent / f"{j}.{me}.partial").write_bytes(data)
                        os.replace(path.parent / f"{j}.{me}.partial", path)
                        model[row, j] = data
                    elif what < 0.7 and (row, j) in model:
                        path.unlink()
                        del model[row, j]
                    elif (row, j) in model:
                        assert path.stat().st_size == len(model[row, j])
                        assert path.read_bytes() == model[row, j]
                    else:
                        assert not path.exists()
                except (AssertionError, OSError) as e:
                    wrong.append((me, step, row, j, repr(e)))
                    return

        threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong
        m.commit("all of it")
        for model in models:
            for (row, j), data in model.items():
                assert (m.main / f"a/c/{row}/{j}").read_bytes() == data
        assert_committed(repo, m.main)
