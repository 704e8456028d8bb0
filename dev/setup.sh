#!/bin/sh
# Make the environment in $VENV and install Tessera into it: `dev/setup.sh chat` installs what a first
# answer needs, `dev/setup.sh dev` what the tests need. Proxies, indexes and constraints that pip is
# told by its environment or configuration stay in force.
set -eu

kind=${1:?chat or dev}
venv=${VENV:-.venv}
constraints=${CONSTRAINTS-}
torch_index=${TORCH_INDEX-}
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "tessera: $*"; exit 1; }

# usable PYTHON: version 3.10 to 3.14, for which our dependencies have wheels
usable() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON-}" ]; then
        usable "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 to 3.14"
        printf '%s\n' "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.10 python3.14 python \
        /opt/homebrew/bin/python3 /usr/local/bin/python3; do
        if usable "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    fail "Python 3.10 or newer is needed, found $(python3 -V 2>/dev/null || printf 'none'): $(advice)"
}

advice() {
    case $(uname -s) in
    Darwin) printf '%s' "install it from python.org or with: brew install python@3.12" ;;
    *) printf '%s' "install it, on Debian and Ubuntu with: sudo apt install python3 python3-venv" ;;
    esac
}

check_platform() {
    platform=$("$1" -c 'import platform; print(platform.system(), platform.machine())')
    case $platform in
    "Darwin x86_64")
        if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null || true)" = 1 ]; then
            fail "$1 is an Intel build on an Apple chip: install an arm64 Python (python.org or brew)"
        fi
        fail "PyTorch has no current wheels for Intel Macs: use Linux, or a Mac with an Apple chip"
        ;;
    esac
    "$1" -c 'import struct, sys; sys.exit(struct.calcsize("P") != 8)' ||
        fail "$1 is a 32-bit Python: PyTorch needs a 64-bit one"
}

make_environment() {
    if [ -x "$venv/bin/python" ] && usable "$venv/bin/python"; then
        return
    fi
    python=$(find_python) || exit 1
    check_platform "$python"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        fail "$python cannot make environments: sudo apt install python$version-venv"
    fi
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
        fail "VENV=$venv exists and is no environment: give another one"
    fi
    say "Making $venv with $("$python" -V)"
    "$python" -m venv --clear "$venv" || fail "$venv cannot be made with $python"
}

# What is fetched and what it takes; PyTorch for Linux brings CUDA unless it comes from a CPU index.
tell_sizes() {
    free=$(df -Pk "$venv" | awk 'NR == 2 { print int($4 / 1024) }')
    case $kind in
    chat) fetched=300 needed=1500 ;;
    *) fetched=600 needed=2500 ;;
    esac
    say "Installing for $kind: about $fetched MB to fetch, $needed MB of disk; $free MB are free"
    if [ "$(uname -s)" = Linux ] && [ -z "$torch_index" ] && ! command -v nvidia-smi >/dev/null &&
        ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
        say "(PyTorch from the usual index brings CUDA: 3 GB more to fetch and 7 GB more of disk," \
            "see TORCH_INDEX in the README)"
    fi
    [ "$free" -ge "$needed" ] || fail "$needed MB of disk are needed: make room, or give VENV= elsewhere"
}

install() {
    "$venv/bin/python" -m pip install "$@" ||
        fail "pip could not install; its message above says why. Started again, it goes on from there"
}

make_environment
tell_sizes
set --
[ -z "$constraints" ] || set -- --constraint "$constraints"
"$venv/bin/python" -m pip install --upgrade pip ||
    say "pip could not be brought up to date; going on with the one there is"
[ -z "$torch_index" ] || install "$@" --index-url "$torch_index" torch
if [ "$kind" = chat ]; then
    install "$@" --editable '.[default]'
else
    install "$@" --editable '.[dev]'
    touch "$venv/.ready-dev"
fi
touch "$venv/.ready-chat"
