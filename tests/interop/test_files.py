"""Ordinary tools on ordinary files: trees come in any order, are edited in place, and go."""
import json
import os
import random
import shutil
import subprocess

import numpy as np
import pytest
import zarr

from conftest import array_json, assert_committed, assert_same, group_json, plain, put, put_array, read_tree


def sh(command, **kw):
    p = subprocess.run(["bash", "-ec", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=100, **kw)
    assert p.returncode == 0, f"{command}\n{p.stdout}"
    return p.stdout


@pytest.fixture
def tree(tmp_path):
    """A hierarchy on disk with everything that matters."""
    d = tmp_path / "tree"
    d.mkdir()
    g = zarr.open_group(str(d), mode="w", attributes={"a": 1})
    g.create_array("x/y/a", shape=(30, 20), chunks=(10, 5), dtype="f8")[:] = np.random.default_rng(0).random((30, 20))
    g.create_array("b", shape=(2000,), chunks=(1000,), dtype="i4", compressors=None)[:] = np.arange(2000)
    g.create_array("scalar", shape=(), dtype="i2")[()] = 3
    g.create_array("big", shape=(300000,), chunks=(300000,), dtype="f8", compressors=None)[:] = 1.25
    g.create_group("empty")
    return d


BRING = {
    "cp_r": "cp -r {src}/. {dst}/",
    "cp_a": "cp -a {src}/. {dst}/",
    "cp_reflink_never": "cp -r --reflink=never --sparse=always {src}/. {dst}/",
    "tar": "tar -C {src} -cf - . | tar -C {dst} -xf -",
    "tar_gz_reversed": "cd {src}; find . -type f | sort -r | tar -czf {tmp}/t.gz -T -; tar -C {dst} -xzf {tmp}/t.gz",
    "rsync_a": "rsync -a {src}/ {dst}/",
    "rsync_inplace": "rsync -a --inplace {src}/ {dst}/",
    "rsync_delay": "rsync -a --delay-updates {src}/ {dst}/",
    "rsync_partial_dir": "rsync -a --partial-dir=.rsync-partial {src}/ {dst}/",
    "unzip": "cd {src}; zip -qr {tmp}/t.zip .; unzip -qo {tmp}/t.zip -d {dst}",
    "unzip_chunks_first": "cd {src}; find . -type f | sort | zip -q {tmp}/t.zip -@; unzip -qo {tmp}/t.zip -d {dst}",
    "install": "cd {src}; find . -type f -exec install -D {{}} {dst}/{{}} ';'",
    "dd": "cd {src}; find . -type d -exec mkdir -p {dst}/{{}} ';'; "
          "find . -type f -exec dd if={{}} of={dst}/{{}} bs=777 status=none ';'",
    "cat": "cd {src}; find . -type d -exec mkdir -p {dst}/{{}} ';'; "
           "find . -type f | while read f; do cat $f > {dst}/$f; done",
    "mv": "cp -r {src} {tmp}/copy; mv {tmp}/copy/* {dst}/",
}


@pytest.mark.parametrize("how", BRING)
def test_bring(repo, mount, tree, tmp_path, how):
    sh(BRING[how].format(src=tree, dst=mount.main, tmp=tmp_path))
    want = read_tree(tree)
    assert_same(read_tree(mount.main), want, names=("mount", "tree"))
    mount.commit()
    assert_same(read_tree(mount.main), want, names=("mount", "tree"))
    assert_committed(repo, mount.main)


@pytest.mark.parametrize("seed", range(6))
def test_any_order(repo, mount, tree, seed):
    """File by file, in random order: chunks before arrays, children before parents."""
    want = read_tree(tree)
    keys = list(want)
    random.Random(seed).shuffle(keys)
    for k in keys:
        put(mount.main, k, want[k])
    assert_same(read_tree(mount.main), want, names=("mount", "tree"))
    mount.commit()
    assert_committed(repo, mount.main)
    assert_same(read_tree(mount.main), want, names=("mount", "tree"))


@pytest.mark.sanitize
@pytest.mark.parametrize("order", ["sorted", "reversed"])
def test_any_order_sanitized(repo, mount, tree, order):
    want = read_tree(tree)
    for k in sorted(want, reverse=order == "reversed"):
        put(mount.main, k, want[k])
    mount.commit()
    assert_committed(repo, mount.main)
    shutil.rmtree(mount.main / "x")
    mount.commit()
    assert_committed(repo, mount.main)


def test_same_documents_again__nothing_to_commit(mount, tree):
    """As every xarray writer does it."""
    sh(f"rsync -a {tree}/ {mount.main}/")
    mount.commit()
    sh(f"cd {tree}; find . -name zarr.json -exec cp --parents {{}} {mount.main}/ ';'")
    p = mount.firn.run("commit", mount, "-m", "again")
    assert p.returncode == 4, (p.stdout, p.stderr)


def test_rsync_again_transfers_nothing(mount, tree):
    """Times given by utimens last within the session."""
    sh(f"rsync -a {tree}/ {mount.main}/")
    out = sh(f"rsync -a --itemize-changes {tree}/ {mount.main}/")
    assert not [line for line in out.splitlines() if line.startswith(">f")], out


@pytest.mark.parametrize("how", ["cp -a {m}/. {out}/", "rsync -a {m}/ {out}/", "tar -C {m} -cf - . | tar -C {out} -xf -",
                                 "cd {m}; zip -qr {out}.zip .; unzip -qo {out}.zip -d {out}"])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "uncommitted"])
def test_take_out(mount, tree, tmp_path, how, committed):
    sh(f"cp -r {tree}/. {mount.main}/")
    if committed:
        mount.commit()
    out = tmp_path / "out"
    out.mkdir()
    sh(how.format(m=mount.main, out=out))
    assert_same(read_tree(out), read_tree(tree), names=("out", "tree"))
    sh(f"diff -r {mount.main} {tree}")


REMOVE = {
    "rm_rf": "rm -rf {m}/x/y",
    "rm_chunks": "rm -rf {m}/x/y/a/c",
    "find_delete": "find {m}/x -delete",
    "document_first": "rm {m}/x/y/a/zarr.json; rm -r {m}/x/y/a",
    "everything": "rm -rf {m}/*",
    "top_and_again": "rm -rf {m}; mkdir {m}; cp -r {tree}/. {m}/",
    "replace": "rm -rf {m}/b; cp -r {tree}/x/y/a {m}/b",
    "swap": "cp -r {tree}/b {m}/n; rm -rf {m}/b; mv {m}/n {m}/b",
}


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "uncommitted"])
@pytest.mark.parametrize("how", REMOVE)
def test_remove(repo, mount, tree, tmp_path, how, committed):
    here = tmp_path / "here"
    shutil.copytree(tree, here)
    sh(f"cp -r {tree}/. {mount.main}/")
    if committed:
        mount.commit()
    for m in here, mount.main:
        sh(REMOVE[how].format(m=m, tree=tree))
    assert_same(read_tree(mount.main), read_tree(here), names=("mount", "plain"))
    if how != "everything":
        mount.firn.run("commit", mount, "-m", "m")
        assert_same(read_tree(mount.main), read_tree(here), names=("mount", "plain"))
        assert_committed(repo, mount.main)


def vim(path, edit):
    """Vim's way of saving: swap file, write test 4913, backup by rename, new file, fsync, backup away."""
    path = os.fspath(path)
    at, name = os.path.split(path)
    swap = os.path.join(at, f".{name}.swp")
    fd = os.open(swap, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.pwrite(fd, b"b0VIM 9.0" + bytes(4000), 0)
    with open(path, "rb") as f:
        old = f.read()
    test = os.path.join(at, "4913")
    os.close(os.open(test, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o100644))
    os.chown(test, os.getuid(), os.getgid())
    os.unlink(test)
    os.rename(path, path + "~")
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(out, edit(old))
    os.fsync(out)
    os.fchmod(out, 0o644)
    os.close(out)
    os.unlink(path + "~")
    os.close(fd)
    os.unlink(swap)


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "uncommitted"])
@pytest.mark.parametrize("how", ["vim_way", "vim", "sed", "truncate_write", "python_replace", "append_newline"])
def test_edit_document(repo, mount, tree, tmp_path, how, committed):
    here = tmp_path / "here"
    shutil.copytree(tree, here)
    sh(f"cp -r {tree}/. {mount.main}/")
    if committed:
        mount.commit()
    for m in here, mount.main:
        for doc in m / "zarr.json", m / "x/y/a/zarr.json":
            if how == "vim_way":
                vim(doc, lambda old: json.dumps(json.loads(old) | {"attributes": {"edited": 1}}).encode())
            elif how == "vim":
                sh(f"vim.tiny -N -u NONE -es -c 's/\"node_type\"/\"node_type\"/e' -c '%s/$/ /' -c wq {doc} </dev/null")
            elif how == "sed":
                sh(f"sed -i 's/\"attributes\": {{/\"attributes\":   {{/' {doc}")
            elif how == "truncate_write":
                text = doc.read_bytes() + b"\n\n"
                with open(doc, "wb") as f:
                    f.write(text[:10])
                    f.flush()
                    f.write(text[10:])
            elif how == "append_newline":
                with open(doc, "ab") as f:
                    f.write(b"\n")
            else:
                new = doc.with_name("new.json")
                new.write_bytes(doc.read_bytes() + b"  ")
                os.replace(new, doc)
    assert_same(read_tree(mount.main), read_tree(here), names=("mount", "plain"))
    mount.firn.run("commit", mount, "-m", "m")
    assert_same(read_tree(mount.main), read_tree(here), names=("mount", "plain"))
    assert_committed(repo, mount.main)


@pytest.mark.sanitize
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "uncommitted"])
def test_edit_chunk_in_place(repo, mount, tmp_path, committed):
    """O_RDWR without O_TRUNC, pwrite, append, ftruncate: the chunk is copied up, and published at close."""
    here = tmp_path / "here"
    rng = random.Random(5)
    for d in here, mount.main:
        put_array(d, "a", (4,), (1,))
        for i, n in enumerate((10, 600, 70000, 3)):
            put(d, f"a/c/{i}", bytes([i + 1]) * n)
    if committed:
        mount.commit()
    for step in range(12):
        i, at, n = rng.randrange(4), rng.randrange(900), rng.randrange(1, 6000)
        how = rng.choice(["pwrite", "append", "truncate", "grow"])
        for d in here, mount.main:
            fd = os.open(d / f"a/c/{i}", os.O_RDWR | (os.O_APPEND if how == "append" else 0))
            if how == "pwrite":
                os.pwrite(fd, bytes([step + 50]) * n, at)
            elif how == "append":
                os.write(fd, b"tail")
            elif how == "truncate":
                os.ftruncate(fd, max(1, os.fstat(fd).st_size // 2))
            else:
                os.ftruncate(fd, os.fstat(fd).st_size + n)
            if step % 3 == 0:
                os.fsync(fd)
            os.close(fd)
        assert_same(read_tree(mount.main), read_tree(here), f"step {step}: {how}", ("mount", "plain"))
    mount.commit()
    assert_committed(repo, mount.main)
    assert_same(read_tree(mount.main), read_tree(here), names=("mount", "plain"))


def test_who_has_it_open_reads_on(mount):
    """A replaced or removed chunk keeps its bytes for those who have it open."""
    put_array(mount.main, "a", (2,), (1,))
    chunk = put(mount.main, "a/c/0", b"old" * 1000)
    mount.commit()
    with open(chunk, "rb", buffering=0) as f:
        before = os.fstat(f.fileno())
        put(mount.main, "a/c/new", b"new" * 500).rename(chunk)
        assert chunk.read_bytes() == b"new" * 500
        assert f.read() == b"old" * 1000 and os.fstat(f.fileno()).st_ino == before.st_ino
        after = os.stat(chunk)
        assert after.st_ino != before.st_ino
        chunk.unlink()
        f.seek(0)
        assert f.read() == b"old" * 1000


def test_identity_of_files(mount):
    """Inode numbers are never used again; mtime changes with each write and has nanoseconds, not with rename."""
    put_array(mount.main, "a", (9,), (1,))
    seen = set()
    for i in range(20):
        p = put(mount.main, "a/c/tmp", b"x" * (i + 1))
        st = p.stat()
        p.rename(mount.main / "a/c/0")
        now = (mount.main / "a/c/0").stat()
        assert (now.st_ino, now.st_mtime_ns, now.st_size) == (st.st_ino, st.st_mtime_ns, i + 1)
        assert st.st_ino not in seen
        seen.add(st.st_ino)
    with open(mount.main / "a/c/0", "r+b", buffering=0) as f:
        times = []
        for i in range(5):
            f.write(b"y")
            times.append(os.fstat(f.fileno()).st_mtime_ns)
        assert len(set(times)) == 5


def test_scratch_files_live_in_the_mount_only(repo, mount):
    put_array(mount.main, "a", (2,), (1,))
    put(mount.main, "a/c/0", b"x")
    (mount.main / "notes.txt").write_text("mine")
    (mount.main / "a/.zarr.json.swp").write_text("swap")
    assert "notes.txt" in os.listdir(mount.main)
    assert ".zarr.json.swp" not in os.listdir(mount.main / "a")
    assert (mount.main / "notes.txt").read_text() == "mine"
    assert "notes.txt" in mount.control("status")
    p = mount.firn.run("commit", mount, "-m", "m")
    assert p.returncode == 0 and "notes.txt" in p.stderr
    (mount.main / "notes.txt").unlink()
    assert sorted(read_tree(mount.main)) == ["a/c/0", "a/zarr.json", "zarr.json"]
    assert_committed(repo, mount.main)


def test_pending_files__commit_refuses__force_drops(repo, mount):
    put_array(mount.main, "a", (2,), (1,))
    put(mount.main, "a/c/0", b"in the grid")
    put(mount.main, "a/c/7", b"outside")
    put(mount.main, "lost/c/0/0", b"no array")
    p = mount.firn.refuses("commit", mount, "-m", "m", saying=())
    assert "a/c/7" in p.stderr or "lost/c/0/0" in p.stderr, p.stderr
    assert (mount.main / "a/c/7").read_bytes() == b"outside"
    mount.commit("m", "--force")
    assert_committed(repo, mount.main)
    assert set(read_tree(mount.main)) == {"zarr.json", "a/zarr.json", "a/c/0"}


def refused(mount, *paths):
    """A commit names them, and changes nothing."""
    mount.firn.refuses("commit", mount, "-m", "m", saying=[*paths, "empty"])
    status = mount.control("status")
    assert all(path in status for path in paths), status


def test_emptied_chunk__commit_refuses(repo, mount):
    """As an interrupted cp leaves it: not taken for a chunk that was deleted."""
    put_array(mount.main, "a", (4,), (1,))
    for i in range(3):
        put(mount.main, f"a/c/{i}", b"base")
    mount.commit()
    put(mount.main, "a/c/3", b"new")
    for i in range(4):
        os.truncate(mount.main / f"a/c/{i}", 0) if i % 2 else open(mount.main / f"a/c/{i}", "wb").close()
    refused(mount, *[f"/a/c/{i}" for i in range(4)])
    put(mount.main, "a/c/0", b"written")
    os.unlink(mount.main / "a/c/1")
    os.rename(put(mount.main, "a/c/t.partial", b"replaced"), mount.main / "a/c/2")
    refused(mount, "/a/c/3")
    assert mount.main.joinpath("a/c/3").read_bytes() == b""
    mount.firn.snapshot("commit", mount, "-m", "m", "--force")
    assert not (mount.main / "a/c/3").exists()
    assert_committed(repo, mount.main)
    assert {k: v for k, v in read_tree(mount.main).items() if "/c/" in k} == {"a/c/0": b"written", "a/c/2": b"replaced"}


def test_empty_chunk_files__are_pending_until_written(repo, mount):
    put_array(mount.main, "a", (4,), (1,))
    mount.commit()
    (mount.main / "a/c").mkdir()
    for i in range(3):
        (mount.main / f"a/c/{i}").touch()
    (mount.main / "a/c/9").touch()
    refused(mount, "/a/c/0", "/a/c/1", "/a/c/2", "/a/c/9")
    put(mount.main, "a/c/0", b"x")
    os.unlink(mount.main / "a/c/1")
    os.rename(mount.main / "a/c/2", mount.main / "a/c/3")
    refused(mount, "/a/c/3", "/a/c/9")
    session = mount.session()["id"]
    mount.umount()
    with repo.resume(session) as m:
        refused(m, "/a/c/3", "/a/c/9")
        put(m.main, "a/c/3", b"y")
        os.unlink(m.main / "a/c/9")
        m.commit()
        assert {k: v for k, v in read_tree(m.main).items() if "/c/" in k} == {"a/c/0": b"x", "a/c/3": b"y"}
        assert_committed(repo, m.main)


def test_emptied_chunk_of_a_worker__commit_refuses(repo, mount, tmp_path):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"base")
    mount.commit()
    token, journal = tmp_path / "fork.json", tmp_path / "w.journal"
    mount.firn("fork", mount, "-o", token)
    with repo.worker(token) as w:
        open(w.main / "a/c/0", "wb").close()
        put(w.main, "a/c/1", b"new")
        w.umount("--export", journal)
    mount.firn.refuses("commit", mount, journal, "-m", "m", saying=["/a/c/0", "empty"])
    assert (mount.main / "a/c/0").read_bytes() == b"base"
    mount.firn.snapshot("commit", mount, journal, "-m", "m", "--force")
    assert not (mount.main / "a/c/0").exists() and (mount.main / "a/c/1").read_bytes() == b"new"


def test_pending_files__adopted_when_the_array_grows(repo, mount):
    put_array(mount.main, "a", (2,), (1,))
    put(mount.main, "a/c/3", b"early")
    put(mount.main, "a/zarr.json", array_json((4,), (1,)))
    mount.commit()
    assert_committed(repo, mount.main)
    assert (mount.main / "a/c/3").read_bytes() == b"early"


def test_groups_without_document__are_directories_then_groups(repo, mount):
    put(mount.main, "x/y/a/zarr.json", array_json((2,), (1,)))
    put(mount.main, "x/y/a/c/0", b"1")
    assert not (mount.main / "x/zarr.json").exists()
    mount.commit()
    for at in "", "x/", "x/y/":
        assert json.loads((mount.main / f"{at}zarr.json").read_bytes())["node_type"] == "group"
    assert_committed(repo, mount.main)


def test_document_kept_byte_for_byte(repo, mount):
    raw = group_json().replace(b": ", b"  :\t") + b"\n\n  "
    put(mount.main, "zarr.json", raw)
    put(mount.main, "a/zarr.json", array_json((2,), (1,), attributes={"f": 1.0e0}).replace(b"1.0", b"1.000"))
    want = read_tree(mount.main)
    mount.commit()
    assert_same(read_tree(mount.main), want)
    assert_committed(repo, mount.main)
    assert store_bytes(repo, "zarr.json") == raw


def store_bytes(repo, key):
    from conftest import store_tree
    return store_tree(repo.store())[key]


def test_rename_of_committed_node__is_exdev_and_mv_copies(repo, mount):
    import errno
    put_array(mount.main, "a", (2,), (1,))
    put(mount.main, "a/c/0", b"1")
    mount.commit()
    with pytest.raises(OSError) as e:
        os.rename(mount.main / "a", mount.main / "b")
    assert e.value.errno == errno.EXDEV
    sh(f"mv {mount.main}/a {mount.main}/b")
    assert set(read_tree(mount.main)) == {"zarr.json", "b/zarr.json", "b/c/0"}
    mount.commit()
    assert_committed(repo, mount.main)


def test_extended_attributes(mount):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"small")
    put(mount.main, "a/c/1", b"L" * 5000)
    put(mount.main, "a/c/9", b"pending")
    put(mount.main, "a/notes.txt", b"scratch")
    mount.commit("m", "--force")
    put(mount.main, "a/c/2", b"new")
    put(mount.main, "a/c/0", b"changed")

    def get(key, name):
        return os.getxattr(mount.main / key, f"user.firn.{name}").decode()

    assert get("a/c/0", "state") == "changed" and get("a/c/0", "ref") == "inline"
    assert get("a/c/1", "state") == "base" and get("a/c/1", "ref").startswith("native ")
    assert get("a/c/2", "state") == "new"
    assert len(get("a/zarr.json", "node")) == 13
    with pytest.raises(OSError):
        os.setxattr(mount.main / "a/c/0", "user.mine", b"x")


def test_root_of_the_mount_takes_nothing_else(mount):
    for act in (lambda: (mount.path / "other").mkdir(), lambda: (mount.path / "f").write_text("x")):
        with pytest.raises(PermissionError):
            act()
    assert os.listdir(mount.path) == ["main"]
    shutil.rmtree(mount.main)
    mount.main.mkdir()
    assert os.listdir(mount.main) == []


def test_du_find_ls(mount, tree):
    sh(f"cp -r {tree}/. {mount.main}/")
    for command in ("find . -type f | sort", "du -ab --apparent-size . | awk '$1 != 4096' | grep -c c/", "ls -R | sort"):
        assert sh(f"cd {mount.main}; {command}") == sh(f"cd {tree}; {command}"), command


def test_shared_mapping_is_written_back(repo, mount):
    import mmap
    put_array(mount.main, "a", (1,), (1,))
    chunk = put(mount.main, "a/c/0", bytes(9000))
    with open(chunk, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[5000:5004] = b"mmap"
    assert chunk.read_bytes()[5000:5004] == b"mmap"
    mount.commit()
    assert_committed(repo, mount.main)
    assert chunk.read_bytes()[5000:5004] == b"mmap"
    got = np.memmap(chunk, mode="r")
    assert bytes(got[5000:5004]) == b"mmap"
