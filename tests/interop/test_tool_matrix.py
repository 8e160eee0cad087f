"""Every tool, unmodified: it writes on a mount and on a plain directory, the bytes are the same, and another
tool reads the mount back.

`make matrix` installs the tools below build/tools (tools/setup.sh; FIRN_TOOLS names another place), runs all of this, and
writes TOOLS.md from what came out. Without the marker `tools` only what needs nothing but `make setup` is run.
"""
import importlib.metadata
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

from conftest import HERE as TESTS
from conftest import assert_committed, assert_same, plain, put, read_tree

HERE = pathlib.Path(__file__).parent
EXPECT = """
import numpy as np
want = np.arange(600).reshape(20, 30)[:10]
shards = np.arange(256, dtype="float32").reshape(16, 16); shards[3:9, 3:9] = 7
"""
CREATE = """
root = zarr.open_group(store, mode="w", zarr_format=3)
a = root.create_array("a", shape=(20, 30), chunks=(5, 10), dtype="int32", fill_value=-1)
a[:] = np.arange(600).reshape(20, 30)
s = root.create_array("s", shape=(16, 16), chunks=(4, 4), shards=(8, 8), dtype="float32")
s[:] = np.arange(256).reshape(16, 16)
s[3:9, 3:9] = 7
a.resize((10, 30))
"""
WRITE = "import sys, numpy as np, zarr\nstore = sys.argv[1]\n" + CREATE
READ = {
    "zarr-python": "import sys, zarr\n" + EXPECT + """
g = zarr.open_group(sys.argv[1], mode="r")
assert (g["a"][:] == want).all() and (g["s"][:] == shards).all()
""",
    "tensorstore": "import sys, tensorstore as ts\n" + EXPECT + """
def read(name):
    return ts.open({"driver": "zarr3", "kvstore": "file://" + sys.argv[1] + "/" + name}).result().read().result()
assert (read("a") == want).all() and (read("s") == shards).all()
""",
    "zarrs": "import sys, zarr, zarrs\n" + EXPECT + """
zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
g = zarr.open_group(sys.argv[1], mode="r")
assert (g["a"][:] == want).all() and (g["s"][:] == shards).all()
""",
}
# name, of the version there is: [a program that writes what READ expects, who reads it]
PYTHON = {
    "zarr-python": [WRITE, ["tensorstore", "zarrs"]],
    "fsspec, through zarr-python": ["import sys, numpy as np, zarr\n"
                                    "store = zarr.storage.FsspecStore.from_url('file://' + sys.argv[1], storage_options={'auto_mkdir': True})\n" + CREATE,
                                    ["tensorstore", "zarr-python"]],
    "obstore, through zarr-python": ["import sys, numpy as np, zarr, obstore, zarr.storage\n"
                                     "store = zarr.storage.ObjectStore(obstore.store.LocalStore(prefix=sys.argv[1]))\n" + CREATE,
                                     ["tensorstore", "zarrs"]],
    "zarrs, pipeline of zarr-python": ["import sys, numpy as np, zarr, zarrs\nstore = sys.argv[1]\n"
                                       "zarr.config.set({'codec_pipeline.path': 'zarrs.ZarrsCodecPipeline'})\n" + CREATE,
                                       ["tensorstore", "zarr-python"]],
    "tensorstore": ["""
import sys, json, os, numpy as np, tensorstore as ts
def create(name, dtype, shape, chunks, inner=None, fill=0):
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if inner:
        codecs = [{"name": "sharding_indexed", "configuration": {"chunk_shape": inner, "codecs": codecs}}]
    return ts.open({"driver": "zarr3", "kvstore": "file://" + sys.argv[1] + "/" + name, "create": True, "metadata": {
        "shape": shape, "data_type": dtype, "fill_value": fill, "codecs": codecs,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}}}).result()
with open(sys.argv[1] + "/zarr.json", "w") as f:
    json.dump({"zarr_format": 3, "node_type": "group", "attributes": {}}, f)
a = create("a", "int32", [20, 30], [5, 10], fill=-1)
a.write(np.arange(600, dtype="int32").reshape(20, 30)).result()
a.resize(exclusive_max=[10, 30]).result()
s = create("s", "float32", [16, 16], [8, 8], [4, 4])
s.write(np.arange(256, dtype="float32").reshape(16, 16)).result()
s[3:9, 3:9].write(np.full((6, 6), 7, "float32")).result()
""", ["zarr-python", "zarrs"]],
    "dask distributed, processes": ["""
import sys, numpy as np, zarr, dask.array as da
from distributed import Client, LocalCluster
if __name__ == "__main__":
    root = zarr.open_group(sys.argv[1], mode="w", zarr_format=3)
    a = root.create_array("a", shape=(10, 30), chunks=(5, 10), dtype="int32", fill_value=-1)
    s = root.create_array("s", shape=(16, 16), chunks=(4, 4), shards=(8, 8), dtype="float32")
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as c, Client(c):
        da.from_array(np.arange(600, dtype="int32").reshape(20, 30)[:10], chunks=(5, 10)).store(a, lock=False)
        x = np.arange(256, dtype="float32").reshape(16, 16)
        x[3:9, 3:9] = 7
        da.from_array(x, chunks=(8, 8)).store(s, lock=False)
""", ["tensorstore", "zarrs"]],
}
XARRAY = """
import sys, numpy as np, xarray as xr
from zarr.storage import LocalStore
def part(first, last, value):
    t = np.arange(first, last)
    return xr.Dataset({"v": (("t", "x"), np.full((last - first, 6), value, "float32"))}, {"t": t, "x": np.arange(6)})
store, consolidated = sys.argv[1], %s
keep = dict(zarr_format=3, consolidated=consolidated)
part(0, 8, 1).to_zarr(store, mode="w", encoding={"v": {"chunks": (4, 3)}}, **keep)
part(8, 16, 2).to_zarr(store, mode="a", append_dim="t", **keep)
part(4, 8, 3).drop_vars("x").to_zarr(store, region={"t": slice(4, 8)}, **keep)
part(12, 16, 4).drop_vars("x").to_zarr(store, region="auto", **keep)
"""
READ_XARRAY = """
import sys, tensorstore as ts, numpy as np
v = ts.open({"driver": "zarr3", "kvstore": "file://" + sys.argv[1] + "/v"}).result().read().result()
assert (v == np.repeat(np.float32([1, 3, 2, 4]), 4)[:, None]).all(), v
"""
# What is the same for a command of any kind: what it is called, what tells its version.
VERSIONS = {
    "cp -a": "cp --version", "rsync -a": "rsync --version", "tar": "tar --version", "unzip": "unzip -v", "mv": "mv --version",
    "rclone": "rclone --version", "sed -i": "sed --version", "ed": "ed --version", "vim": "vim --version",
    "nano": "nano --version", "rm -rf": "rm --version", "find, du": "find --version",
}


def version_of(command):
    p = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert p.returncode == 0, f"{command}: {p.stdout}"
    return re.search(r"\d+(\.\d+)+", p.stdout)[0]


@pytest.fixture
def row(record_property):
    """row(tool, version, verdict): the line of TOOLS.md that is written if the test passes."""
    def add(tool, version, verdict="works"):
        record_property("row", f"{tool}|{version}|{verdict}")
    return add


def tool(name, *path):
    at = pathlib.Path(os.environ.get("FIRN_TOOLS", TESTS.parent / "build/tools")).resolve().joinpath(name, *path)
    assert at.exists(), f"there is no {at}: make tools"
    return at


def run(*command, **kw):
    p = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       **{"timeout": 120} | kw)
    assert p.returncode == 0, p.stdout[-2000:]
    return p.stdout


def python(program, directory, interpreter=sys.executable):
    run(interpreter, "-c", program, directory)


def python_version(package, interpreter=sys.executable):
    return run(interpreter, "-c", f"import importlib.metadata as m; print(m.version('{package}'))").strip()


def everywhere(repo, mount, tmp_path, write, readers):
    """`write` on a plain directory and the mount; the same bytes; `readers` read; the same after a commit."""
    here = tmp_path / "plain"
    here.mkdir()
    write(here)
    write(mount.main)
    want = plain(read_tree(here))
    assert want
    assert_same(plain(read_tree(mount.main)), want, "mount and directory", ("mount", "plain"))
    for read in readers:
        read(mount.main)
    mount.commit("m")
    assert_same(plain(read_tree(mount.main)), want, "committed", ("mount", "plain"))
    assert_committed(repo, mount.main)
    for read in readers:
        read(mount.main)


def reader(name):
    return lambda directory: python(READ[name], directory)


# ---- Python ----

@pytest.mark.tools
@pytest.mark.parametrize("name", PYTHON)
def test_python(repo, mount, tmp_path, row, name):
    program, readers = PYTHON[name]
    everywhere(repo, mount, tmp_path, lambda d: python(program, d), [reader(r) for r in readers])
    package = {"zarr-python": "zarr", "dask distributed": "distributed"}
    row(name, importlib.metadata.version(package.get(name.split(",")[0], name.split(",")[0])))


@pytest.mark.tools
def test_zarr_python__set_if_not_exists(repo, mount, tmp_path, row):
    program = """
import asyncio, sys, zarr, zarr.core.buffer as b
from zarr.storage import LocalStore
async def main():
    s = LocalStore(sys.argv[1])
    def value(x):
        return b.default_buffer_prototype().buffer.from_bytes(x)
    for _ in range(2):
        await s.set_if_not_exists("zarr.json", value(b'{"zarr_format": 3, "node_type": "group", "attributes": {"n": 1}}'))
    await s.set_if_not_exists("zarr.json", value(b'{"zarr_format": 3, "node_type": "group", "attributes": {"n": 2}}'))
asyncio.run(main())
"""
    read = "import sys, tensorstore as ts, json\nassert json.load(open(sys.argv[1] + '/zarr.json'))['attributes'] == {'n': 1}"
    everywhere(repo, mount, tmp_path, lambda d: python(program, d), [lambda d: python(read, d)])
    row("zarr-python, `set_if_not_exists`", python_version("zarr"))


@pytest.mark.tools
@pytest.mark.parametrize("consolidated", [True, False], ids=["consolidated", "not consolidated"])
def test_xarray(repo, mount, tmp_path, row, consolidated):
    everywhere(repo, mount, tmp_path, lambda d: python(XARRAY % consolidated, d), [lambda d: python(READ_XARRAY, d)])
    row(f"xarray: `mode=\"w\"`, append, region, {'' if consolidated else 'not '}consolidated", python_version("xarray"))


@pytest.mark.tools
@pytest.mark.parametrize("version", ["zarr-3.0.10", "zarr-3.1.6"])
def test_zarr_python_of_before(repo, mount, tmp_path, row, version):
    interpreter = tool(version, "bin", "python")
    everywhere(repo, mount, tmp_path, lambda d: python(WRITE, d, interpreter),
               [reader("tensorstore"), reader("zarr-python"), reader("zarrs"), lambda d: python(READ["zarr-python"], d, interpreter)])
    row("zarr-python", python_version("zarr", interpreter))


@pytest.mark.tools
def test_ome_zarr(repo, mount, tmp_path, row):
    program = """
import sys, numpy as np, zarr
from ome_zarr.io import parse_url
from ome_zarr.writer import write_image
g = zarr.open_group(sys.argv[1], mode="w", zarr_format=3)
write_image(np.arange(64 * 64, dtype="uint16").reshape(64, 64), g, axes="yx", storage_options={"chunks": (16, 16)})
"""

    def read(directory):
        python("import sys, tensorstore as ts, numpy as np, glob, json\n"
               "first = json.load(open(sys.argv[1] + '/zarr.json'))['attributes']['ome']['multiscales'][0]['datasets'][0]['path']\n"
               "a = ts.open({'driver': 'zarr3', 'kvstore': 'file://' + sys.argv[1] + '/' + first}).result().read().result()\n"
               "assert (a == np.arange(64 * 64).reshape(64, 64)).all()", directory)

    interpreter = tool("ome", "bin", "python")
    everywhere(repo, mount, tmp_path, lambda d: python(program, d, interpreter), [read])
    row("ome-zarr", python_version("ome-zarr", interpreter))


# ---- other languages ----

ARRAY_A = ("import sys, zarr, numpy as np\na = zarr.open_array(sys.argv[1] + '/a', mode='r')\n"
           "assert (a[:] == np.arange(24, dtype='int32').reshape(4, 6)).all(), a[:]")


@pytest.mark.tools
def test_zarrita(repo, mount, tmp_path, row):
    at = tool("npm")
    shutil.copy(HERE / "tools/zarrita/write.mjs", at / "write.mjs")
    everywhere(repo, mount, tmp_path, lambda d: run("node", "write.mjs", d, cwd=at), [lambda d: python(ARRAY_A, d)])
    row("zarrita.js", version_of(f"grep '\"version\"' {at}/node_modules/zarrita/package.json"))


@pytest.mark.tools
def test_zarrs_crate(repo, mount, tmp_path, row):
    """Also with inner chunks written into shards that are there."""
    program = tool("cargo", "bin", "zarrs-matrix")

    def read(directory):
        run(program, "read", directory)
        python("import sys, zarr, numpy as np\ng = zarr.open_group(sys.argv[1], mode='r')\n"
               "a = np.arange(600).reshape(20, 30); a[4:6, 9:11] = 7; a[15:, 20:] = -1\n"
               "s = np.arange(256).reshape(16, 16); s[3:9, 3:9] = 7\n"
               "assert (g['a'][:] == a).all() and (g['s'][:] == s).all()", directory)

    everywhere(repo, mount, tmp_path, lambda d: run(program, "write", d), [read])
    row("zarrs (Rust crate), partial encoding too", version_of(f"grep '^zarrs =' {HERE}/tools/zarrs/Cargo.toml"))


@pytest.mark.tools
def test_zarr_java(repo, mount, tmp_path, row):
    """Its nodes and its store; for arrays of numbers it needs a library that is not in Maven Central."""
    java = ["java", "-cp", f"{tool('java', 'target/classes')}:{tool('java', 'lib')}/*", "Matrix"]

    def read(directory):
        run(*java, "read", directory)
        python(ARRAY_A, directory)

    everywhere(repo, mount, tmp_path, lambda d: run(*java, "write", d), [read])
    row("zarr-java", version_of(f"grep -A1 'zarr-java</art' {HERE}/tools/java/pom.xml"),
        "works: groups, arrays, attributes, resize, chunks through its store; `Array.read` and `write` not tried: "
        "edu.ucar:cdm-core is not in Maven Central")


# ---- GDAL and netCDF ----

GDAL_INPUT = ("import sys, zarr, numpy as np\ng = zarr.open_group(sys.argv[1], mode='w', zarr_format=3)\n"
              "a = g.create_array('a', shape=(8, 8), chunks=(4, 4), dtype='int16', compressors=None)\n"
              "a[:] = np.arange(64).reshape(8, 8)\n")


@pytest.mark.tools
def test_gdal_reads(repo, mount, tmp_path, row):
    interpreter = tool("gdal", "bin", "python")

    def read(directory):
        python("import sys, rasterio, numpy as np\n"
               "with rasterio.open('ZARR:\"' + sys.argv[1] + '\":/a') as d:\n"
               "    assert (d.read(1) == np.arange(64).reshape(8, 8)).all()", directory, interpreter)

    everywhere(repo, mount, tmp_path, lambda d: python(GDAL_INPUT, d), [read])
    row("GDAL, reading (wheel of rasterio)", run(interpreter, "-c", "import rasterio; print(rasterio.__gdal_version__)").strip(),
        "works; it knows no sharding")


@pytest.mark.tools
def test_gdal_writes(repo, mount, tmp_path, row):
    interpreter = tool("gdal", "bin", "python")
    program = ("import sys, rasterio, numpy as np\n"
               "with rasterio.open(sys.argv[1] + '/g', 'w', driver='Zarr', FORMAT='ZARR_V3', width=8, height=8, count=1,\n"
               "                   dtype='int16', nodata=-1, BLOCKSIZE='4,4') as d:\n"
               "    d.write(np.arange(64, dtype='int16').reshape(8, 8), 1)\n")

    def write(directory):
        put(directory, "zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        python(program, directory, interpreter)

    def read(directory):
        python("import sys, zarr, numpy as np\ng = zarr.open_group(sys.argv[1] + '/g', mode='r')\n"
               "(a,) = [a for _, a in g.arrays() if a.shape == (8, 8)]\n"
               "assert (a[:] == np.arange(64).reshape(8, 8)).all()", directory)

    everywhere(repo, mount, tmp_path, write, [read])
    row("GDAL, writing (wheel of rasterio)", run(interpreter, "-c", "import rasterio; print(rasterio.__gdal_version__)").strip())


def knows_no_v3(tmp_path, mount, command):
    """It cannot read Zarr v3 from a plain directory either."""
    for directory in (tmp_path / "plain", mount.main):
        directory.mkdir(exist_ok=True)
        python(GDAL_INPUT, directory)
        p = subprocess.run([c.replace("{}", str(directory)) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, timeout=60)
        assert p.returncode != 0 or not re.search("int16|short", p.stdout.lower()), p.stdout


@pytest.mark.tools
def test_gdal_of_debian__knows_no_v3(mount, tmp_path, row):
    knows_no_v3(tmp_path, mount, ["gdalinfo", 'ZARR:"{}/a"'])
    row("GDAL of Debian 12", version_of("gdalinfo --version"), "no: it knows no Zarr v3, on no file system")


@pytest.mark.tools
def test_netcdf__knows_no_v3(mount, tmp_path, row):
    knows_no_v3(tmp_path, mount, ["ncdump", "-h", "file://{}#mode=zarr,file"])
    row("netCDF-C of Debian 12", version_of("nc-config --version || ncdump 2>&1 | grep -o 'library version.*'"),
        "no: it knows no Zarr v3, on no file system")


@pytest.mark.tools
def test_netcdf_of_python__knows_no_v3(mount, tmp_path, row):
    program = "import sys, netCDF4\nd = netCDF4.Dataset('file://' + sys.argv[1] + '#mode=zarr,file')\nprint(d['a'].dtype)"
    knows_no_v3(tmp_path, mount, [sys.executable, "-c", program, "{}"])
    row("netCDF-C (wheel of netCDF4)", run(sys.executable, "-c", "import netCDF4; print(netCDF4.__netcdf4libversion__)").strip(),
        "no: it knows no Zarr v3, on no file system")


# ---- what every system has ----

SHELL = {
    "cp -a": "cp -a {from}/. {to}",
    "rsync -a": "rsync -a {from}/ {to}/",
    "tar": "tar -C {from} -cf - . | tar -C {to} -xf -",
    "unzip": "cd {from} && zip -qr {tmp}/x.zip . && unzip -qo {tmp}/x.zip -d {to}",
    "mv": "cp -a {from} {tmp}/copy && mv {tmp}/copy/* {to}/",
    "rclone": "rclone --config /dev/null copy {from} {to}",
    "sed -i": "cp -a {from}/. {to} && sed -i s/attributes/attributes/ {to}/zarr.json",
    "ed": "cp -a {from}/. {to} && printf '1\\nw\\nq\\n' | ed -s {to}/zarr.json >/dev/null",
    "vim": "cp -a {from}/. {to} && vim -u NONE -es -c 'w' -c 'q' {to}/zarr.json",
    "rm -rf": "cp -a {from}/. {to} && rm -rf {to}/s && cp -a {from}/s {to}/s",
    "find, du": "cp -a {from}/. {to} && find {to} -type f | wc -l && du -sb {to} >/dev/null",
}
# Not on every machine, or tested in test_files.py too.
RARE = {"rclone", "ed", "vim", "sed -i", "rm -rf", "find, du"}


@pytest.fixture
def source(tmp_path):
    at = tmp_path / "source"
    at.mkdir()
    python(WRITE, at)
    return at


@pytest.mark.parametrize("how", [pytest.param(k, marks=pytest.mark.tools if k in RARE else ()) for k in SHELL])
def test_shell(repo, mount, tmp_path, row, source, how):
    def write(directory):
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        (tmp_path / "x").mkdir()
        command = SHELL[how].replace("{from}", str(source)).replace("{to}", str(directory))
        run("bash", "-ec", command.replace("{tmp}", str(tmp_path / "x")), timeout=60)

    everywhere(repo, mount, tmp_path, write, [reader("tensorstore")])
    row(how, version_of(VERSIONS[how]))


def typed(command, keys):
    """Run it on a terminal and type: it must end by itself."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    end = time.monotonic() + 30
    seen = b""

    def drain(seconds):
        nonlocal seen
        until = time.monotonic() + seconds
        while time.monotonic() < until and select.select([fd], [], [], 0.1)[0]:
            try:
                seen += os.read(fd, 65536)
            except OSError:
                return

    for key in keys:
        drain(1)
        os.write(fd, key)
    while time.monotonic() < end:
        drain(0.2)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            os.close(fd)
            assert os.waitstatus_to_exitcode(status) == 0, seen
            return
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError(f"{command} did not end: {seen}")


@pytest.mark.tools
@pytest.mark.parametrize("editor, keys", [("nano", [b"  ", b"\x0f", b"\r", b"\x18"]), ("vim", [b":set nofixeol\r", b"i  \x1b", b":wq\r"])])
def test_editor_on_a_terminal(repo, mount, tmp_path, row, source, editor, keys):
    def write(directory):
        run("cp", "-a", f"{source}/.", directory)
        before = (directory / "zarr.json").read_bytes()
        typed([editor, *(["-u", "NONE"] if editor == "vim" else ["-I"]), str(directory / "zarr.json")], keys)
        assert (directory / "zarr.json").read_bytes().rstrip(b"\n") == b"  " + before.rstrip(b"\n")

    everywhere(repo, mount, tmp_path, write, [reader("tensorstore")])
    row(f"{editor}, on a terminal", version_of(VERSIONS[editor]))
