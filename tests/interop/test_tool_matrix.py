"""Every tool, unmodified: it writes on a mount and on a plain directory, the bytes are the same, and another
tool reads the mount back.

FIRN_TOOLS names a directory of environments for what is not in tests/requirements.txt: `zarr-3.0.10`, `zarr-3.1.6`,
`ome` (ome-zarr), `gdal` (rasterio, netCDF4), each a Python venv, and `npm` (node_modules with zarrita). Those are in
the `soak` run only. TOOLS.md has the table.
"""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import assert_committed, assert_same, plain, read_tree

HERE = pathlib.Path(__file__).parent
WRITE = """
import sys, numpy as np, zarr
root = zarr.open_group(sys.argv[1], mode="w", zarr_format=3)
a = root.create_array("a", shape=(20, 30), chunks=(5, 10), dtype="int32", fill_value=-1)
a[:] = np.arange(600).reshape(20, 30)
s = root.create_array("s", shape=(16, 16), chunks=(4, 4), shards=(8, 8), dtype="float32")
s[:] = np.arange(256).reshape(16, 16)
s[3:9, 3:9] = 7
a.resize((10, 30))
"""
EXPECT = """
import numpy as np
want = np.arange(600).reshape(20, 30)[:10]
shards = np.arange(256, dtype="float32").reshape(16, 16); shards[3:9, 3:9] = 7
"""
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


def tool(name, *path):
    at = pathlib.Path(os.environ.get("FIRN_TOOLS", "build/tools")).resolve().joinpath(name, *path)
    assert at.exists(), f"there is no {at}: see the top of this file"
    return at


def python(program, directory, interpreter=sys.executable):
    p = subprocess.run([interpreter, "-c", program, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=120)
    assert p.returncode == 0, p.stdout[-2000:]


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


OLD = ["zarr-3.0.10", "zarr-3.1.6"]


@pytest.mark.soak
@pytest.mark.parametrize("version", OLD)
def test_zarr_python_of_before(repo, mount, tmp_path, version):
    everywhere(repo, mount, tmp_path, lambda d: python(WRITE, d, tool(version, "bin", "python")),
               [reader("tensorstore"), reader("zarr-python"), reader("zarrs")])


@pytest.mark.soak
def test_zarrita(repo, mount, tmp_path):
    tool("npm", "node_modules", "zarrita")
    shutil.copy(HERE / "tools/zarrita/write.mjs", tool("npm") / "write.mjs")

    def write(directory):
        p = subprocess.run(["node", "write.mjs", str(directory)], cwd=tool("npm"), stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=60)
        assert p.returncode == 0, p.stdout

    def read(directory):
        python("import sys, zarr, numpy as np\na = zarr.open_array(sys.argv[1] + '/a', mode='r')\n"
               "assert (a[:] == np.arange(24, dtype='int32').reshape(4, 6)).all(), a[:]", directory)

    everywhere(repo, mount, tmp_path, write, [read])


@pytest.mark.soak
def test_ome_zarr(repo, mount, tmp_path):
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

    everywhere(repo, mount, tmp_path, lambda d: python(program, d, tool("ome", "bin", "python")), [read])


@pytest.mark.soak
def test_gdal_reads(repo, mount, tmp_path):
    """GDAL's Python wheels read Zarr v3; they are given what zarr-python wrote."""
    program = ("import sys, zarr, numpy as np\ng = zarr.open_group(sys.argv[1], mode='w', zarr_format=3)\n"
               "a = g.create_array('a', shape=(8, 8), chunks=(4, 4), dtype='int16', compressors=None)\n"
               "a[:] = np.arange(64).reshape(8, 8)\n")

    def read(directory):
        python("import sys, rasterio, numpy as np\n"
               "with rasterio.open('ZARR:\"' + sys.argv[1] + '\":/a') as d:\n"
               "    assert (d.read(1) == np.arange(64).reshape(8, 8)).all()",
               directory, tool("gdal", "bin", "python"))

    everywhere(repo, mount, tmp_path, lambda d: python(program, d), [read])


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
# Not on every machine, or tested in test_files.py too: in the long form only.
RARE = {"rclone", "ed", "vim", "sed -i", "rm -rf", "find, du"}


@pytest.mark.parametrize("how", [pytest.param(k, marks=pytest.mark.soak if k in RARE else ()) for k in SHELL])
def test_shell(repo, mount, tmp_path, how):
    source = tmp_path / "source"
    source.mkdir()
    python(WRITE, source)

    def write(directory):
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        (tmp_path / "x").mkdir()
        command = SHELL[how].replace("{from}", str(source)).replace("{to}", str(directory))
        p = subprocess.run(["bash", "-ec", command.replace("{tmp}", str(tmp_path / "x"))], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=60)
        assert p.returncode == 0, p.stdout

    everywhere(repo, mount, tmp_path, write, [reader("tensorstore")])
