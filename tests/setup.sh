#!/bin/sh
# Brings what the build, the tests, the demo and the benchmarks need, if it is missing:
# Debian packages ($PACKAGES must be there, $EXTRAS are for lint and fuzzing) and Python
# environments below build/.  Does nothing, quickly, when all is there.
set -eu
cd "$(dirname "$0")/.."
say () { printf 'setup: %s\n' "$*" >&2; }

# ---- Debian packages ----
absent () {
    for p in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || echo "$p"
    done
}
as_root () {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    missing=$(absent $PACKAGES)
    extras=$(absent $EXTRAS)
    if [ -n "$missing$extras" ]; then
        say installing $missing $extras
        export DEBIAN_FRONTEND=noninteractive
        as_root apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
    fi
    if [ -n "$missing" ]; then
        as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
            say "apt-get could not install: $missing"
            exit 1
        }
    fi
    for p in $extras; do
        as_root apt-get install -y -qq --no-install-recommends "$p" >/dev/null ||
            say "no $p here: 'make lint' or 'make fuzz' will miss it"
    done
elif ! pkg-config --exists $PKGS; then
    say "this is no Debian: install the development files of $PKGS and check with your package manager"
    exit 1
fi

# ---- Python ----
# The newest interpreter that is at least 3.$1 and can make environments.
find_python () {
    for minor in 14 13 12 11; do
        [ "$minor" -ge "$1" ] || continue
        for p in "python3.$minor" "$HOME"/.pyenv/versions/3.$minor.*/bin/python3 \
            /usr/local/bin/python3.$minor /opt/*/bin/python3.$minor /opt/python*/bin/python3 python3; do
            command -v "$p" >/dev/null 2>&1 || continue
            "$p" -c "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, $minor))" \
                2>/dev/null && { command -v "$p"; return; }
        done
    done
    return 1
}
# An environment with what a requirements file says; made again when either changes.
environment () { # DIRECTORY PYTHON FILE
    mark="$("$2" -c 'import sys; print(sys.executable, sys.version)') $(cksum <"$3")"
    [ -x "$1/bin/python" ] && [ "$(cat "$1/.made-from" 2>/dev/null)" = "$mark" ] && return
    say "making $1 with $("$2" -V) and $3"
    rm -rf "$1"
    "$2" -m venv "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$3"
    echo "$mark" >"$1/.made-from"
}
mkdir -p build
# The official library of format 2 needs 3.12; tests and benchmarks need that library.
if python=$(find_python 12); then
    environment build/venv "$python" tests/requirements.txt
    environment build/venv-ic1 "$python" tests/requirements-v1.txt
elif python=$(find_python 11); then
    say "no Python >= 3.12 here, which the official Icechunk library needs: 'make demo' will do without it," \
        "'make test' and 'make bench' will not run (apt-get install python3.12 python3.12-venv, or pyenv install 3.12)"
    environment build/venv "$python" tests/requirements-3.11.txt
else
    say "no Python >= 3.11 with venv and ensurepip was found: install python3.12 and python3.12-venv"
    exit 1
fi
