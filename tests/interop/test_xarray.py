"""xarray's ways of writing: modes, append, regions, consolidated or not, with and without dask."""
import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from conftest import assert_committed


def dataset(n=24, start="2000-01", seed=1):
    rng = np.random.default_rng(seed)
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), rng.random((n, 6, 8)).astype("f4"), {"units": "K"}),
         "mask": (("lat", "lon"), rng.random((6, 8)) > 0.5)},
        coords={"time": pd.date_range(start, periods=n, freq="MS"), "lat": np.linspace(50, 45, 6),
                "lon": np.linspace(10, 17, 8), "height": 2.0},
        attrs={"title": "synthetic"})


ENC = {"t2m": {"chunks": (4, 6, 8)}, "time": {"units": "days since 1990-01-01", "dtype": "i4", "calendar": "standard"}}


def kw(consolidated):
    return {"zarr_format": 3, "consolidated": consolidated}


def write(consolidated):
    def write(d):
        dataset().to_zarr(d, mode="w", encoding=ENC, **kw(consolidated))
    return write


def write_twice(consolidated):
    def write_twice(d):
        write(consolidated)(d)
        dataset(12, seed=2).to_zarr(d, mode="w", encoding=ENC, **kw(consolidated))
    return write_twice


def add_variable(consolidated):
    def add_variable(d):
        write(consolidated)(d)
        ds = dataset()[["t2m"]].rename(t2m="d2m") * 2
        ds.to_zarr(d, mode="a", **kw(consolidated))
    return add_variable


def append(consolidated):
    def append(d):
        write(consolidated)(d)
        dataset(12, "2002-01", 3)[["t2m"]].to_zarr(d, append_dim="time", **kw(consolidated))
        dataset(12, "2003-01", 4)[["t2m"]].to_zarr(d, append_dim="time", **kw(consolidated))
        assert xr.open_zarr(d, consolidated=False).sizes["time"] == 48
    return append


def region(consolidated):
    def region(d):
        ds = dataset()
        lazy = ds.chunk(time=4)
        lazy.to_zarr(d, mode="w", compute=False, encoding=ENC, **kw(consolidated))
        for i in range(0, 24, 4):
            part = ds[["t2m"]].isel(time=slice(i, i + 4)).drop_vars(["lat", "lon", "height"])
            part.to_zarr(d, region="auto", mode="r+", **kw(consolidated))
        with xr.open_zarr(d, consolidated=False) as got:
            xr.testing.assert_equal(got["t2m"].compute(), ds["t2m"])
    return region


def region_inside_chunks(consolidated):
    def region_inside_chunks(d):
        write(consolidated)(d)
        part = dataset(seed=9)[["t2m"]].isel(time=slice(3, 7)).drop_vars(["lat", "lon", "height", "time"])
        part.to_zarr(d, region={"time": slice(3, 7)}, safe_chunks=False, **kw(consolidated))
    return region_inside_chunks


def with_dask(consolidated):
    def with_dask(d):
        ds = dataset(96).chunk(time=4)
        ds["t2m"].data = dask.array.from_array(ds["t2m"].values, chunks=(4, 6, 8))
        ds.to_zarr(d, mode="w", encoding=ENC, **kw(consolidated))
    return with_dask


def subgroup(consolidated):
    def subgroup(d):
        write(consolidated)(d)
        dataset(8, seed=5).to_zarr(d, group="deep/er", mode="w", **kw(consolidated))
        dataset(8, seed=6).to_zarr(d, group="deep/er", mode="w", **kw(consolidated))
    return subgroup


def datatree(consolidated):
    def datatree(d):
        t = xr.DataTree.from_dict({"/": dataset(4).drop_vars("mask"), "/a": xr.Dataset({"x": ("n", np.arange(5))}),
                                   "/a/b": xr.Dataset({"y": ("m", np.arange(3.0))})})
        t.to_zarr(d, mode="w", zarr_format=3, consolidated=consolidated)
        xr.testing.assert_identical(xr.open_datatree(d, engine="zarr", consolidated=False).compute()["a/b"].to_dataset(inherit=False),
                                    t["a/b"].to_dataset(inherit=False))
    return datatree


MAKERS = [write, write_twice, add_variable, append, region, region_inside_chunks, with_dask, subgroup, datatree]
SCENARIOS = [m(True) for m in MAKERS]


@pytest.mark.parametrize("consolidated", [True, False], ids=["consolidated", "plain"])
@pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
def test_same_as_directory(same, make, consolidated):
    same(make(consolidated))


@pytest.mark.sanitize
@pytest.mark.parametrize("make", [write, append, region], ids=lambda f: f.__name__)
def test_sanitized(same, make):
    same(make(True))


@pytest.mark.parametrize("first,second", [(write, write), (write, write_twice), (write, subgroup), (subgroup, write)],
                         ids=lambda f: f.__name__)
def test_over_a_commit(same, first, second):
    same(first(True), second(True))


def test_append_over_a_commit(same):
    def more(d):
        dataset(12, "2002-01", 3)[["t2m"]].to_zarr(d, append_dim="time", **kw(None))
    same(write(True), more)


def test_mode_w_minus__existing_store__refused_without_change(mount):
    dataset().to_zarr(mount.main, mode="w", **kw(True))
    before = (mount.main / "zarr.json").read_bytes()
    with pytest.raises(Exception, match="contains"):
        dataset().to_zarr(mount.main, **kw(True))
    assert (mount.main / "zarr.json").read_bytes() == before


def test_open_after_commit__warns_of_nothing_and_is_identical(repo, mount):
    ds = dataset()
    ds.to_zarr(mount.main, mode="w", encoding=ENC, **kw(True))
    mount.commit("first")
    with xr.open_zarr(mount.main, consolidated=False) as got:
        xr.testing.assert_identical(got.compute(), ds)
    with xr.open_zarr(repo.store(), consolidated=False) as got:
        xr.testing.assert_identical(got.compute(), ds)
    assert_committed(repo, mount.main)
