# shellcheck shell=bash
# What the scripts need on this machine; sourced by them. Says in one line each what is missing.

missing=0
lacks() {
    echo "missing: $1" >&2
    missing=1
}

[[ $(<Cargo.toml) =~ rust-version\ =\ \"1\.([0-9]+) ]] && oldest_rust=${BASH_REMATCH[1]}
if ! command -v cargo >/dev/null; then
    lacks "Rust: install it with rustup, see https://rustup.rs"
# Where Rust came with rustup this installs what rust-toolchain.toml asks for, and says why it cannot.
elif ! rust=$(cargo --version); then
    lacks "the Rust toolchain of rust-toolchain.toml: run 'rustup toolchain install' here"
elif ! [[ $rust =~ ^cargo\ 1\.([0-9]+) ]] || ((BASH_REMATCH[1] < oldest_rust)); then
    lacks "Rust 1.$oldest_rust or newer (found: $rust): install it with rustup, see https://rustup.rs"
fi

if ! command -v cc >/dev/null; then
    lacks "a C compiler called cc: install gcc or clang (Debian, Ubuntu: apt install gcc libc6-dev)"
fi

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
    lacks "Python 3.9 or newer as $python: install it (Debian, Ubuntu: apt install python3), or name it with PYTHON"
fi

((missing == 0)) || exit 1
