# Shared by the scripts in tools/; they source it from the root of the repository.
# shellcheck shell=bash

# Where rustup puts cargo, for shells that have not been told.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

script_name=$(basename "$0")

# Messages go to stderr: what a script prints on stdout is its result.
say() { echo "$script_name: $*" >&2; }

fail() {
    say "$*"
    exit 1
}
