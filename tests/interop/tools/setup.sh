#!/bin/sh
# Installs what `make matrix` and `make soak` need beyond `make setup`, below build/tools (or FIRN_TOOLS): other
# versions of zarr-python, ome-zarr, GDAL, zarrita.js, zarr-java, the Rust crate zarrs, pjdfstest and fsx; commands as
# Debian packages.  Each part once; one that cannot be installed is named, and its tests fail.
set -u
cd "$(dirname "$0")/../../.."
to=${FIRN_TOOLS:-$PWD/build/tools}
from=$PWD/tests/interop/tools
failed=
mkdir -p "$to"
say () { printf 'tools: %s\n' "$*" >&2; }
as_root () {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
# COMMAND=PACKAGE...: the packages of the commands that are missing.
packages () {
    missing=
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
    done
    [ -z "$missing" ] && return
    say installing $missing
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -qq
    as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null || failed="$failed packages"
}
# NAME WANTED COMMAND...: run it, unless NAME was made from WANTED already.
part () {
    name=$1 wanted=$2
    shift 2
    [ "$(cat "$to/$name/.made-from" 2>/dev/null)" = "$wanted" ] && return
    say "$name: $wanted"
    mkdir -p "$to/$name"
    if "$@" >"$to/$name.log" 2>&1; then
        echo "$wanted" >"$to/$name/.made-from"
    else
        say "$name failed: $to/$name.log"
        failed="$failed $name"
    fi
}
environment () { # NAME REQUIREMENT...
    at=$to/$1
    shift
    build/venv/bin/python -m venv "$at" && "$at/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
npm_packages () {
    ( cd "$to/npm" && { [ -f package.json ] || npm init -y; } && npm install --no-audit --no-fund "$@" )
}
crate () { # DIRECTORY
    cargo install --root "$to/cargo" --target-dir "$to/cargo/target" --path "$1"
}
crates () {
    cargo install --root "$to/cargo" "$@"
}
java () {
    cp -r "$from/java/." "$to/java/" &&
        ( cd "$to/java" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib compile )
}

packages rsync=rsync unzip=unzip zip=zip rclone=rclone vim=vim nano=nano ed=ed fio=fio gdalinfo=gdal-bin \
    ncdump=netcdf-bin node=nodejs npm=npm mvn=maven java=default-jdk-headless cargo=cargo
part zarr-3.0.10 'zarr==3.0.10' environment zarr-3.0.10 zarr==3.0.10
part zarr-3.1.6 'zarr==3.1.6' environment zarr-3.1.6 zarr==3.1.6
part ome 'ome-zarr==0.21.0' environment ome ome-zarr==0.21.0 zarr==3.4.2
part gdal 'rasterio==1.5.2' environment gdal rasterio==1.5.2
part npm 'zarrita@0.7.5 @zarrita/storage@0.2.0' npm_packages zarrita@0.7.5 @zarrita/storage@0.2.0
part java "$(cat "$from"/java/pom.xml "$from"/java/src/main/java/*.java | cksum)" java
part cargo "$(cat "$from"/zarrs/Cargo.toml "$from"/zarrs/src/*.rs | cksum)" crate "$from/zarrs"
part suites 'pjdfstest@0.2.2 fsx@0.3.2' crates pjdfstest@0.2.2 fsx@0.3.2
[ -z "$failed" ] || { say "not installed:$failed; their tests will fail"; exit 1; }
