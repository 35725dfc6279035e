# Shared by the scripts in tools/release.d/ and tools/release; sourced after tools/lib.sh, from the root of the repository.
# shellcheck shell=bash

package_version() { sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1; }

# Whom a package names as its maintainer: as for Debian's tools, else who made the commit.
maintainer() {
    if [ -n "${DEBEMAIL-}" ]; then
        echo "${DEBFULLNAME:-vggt} <$DEBEMAIL>"
    else
        git log -1 --format='%an <%ae>'
    fi
}

# write_texts PROGRAM FOLDER: what it says about itself: man/*.1, and vggt.bash, vggt.zsh and vggt.fish with completions.
write_texts() {
    local shell
    mkdir -p "$2/man"
    # With nothing in its environment, since help texts show the values of variables.
    env -i "$1" man "$2/man" >&2
    [ -f "$2/man/vggt.1" ] || fail "\"$1 man $2/man\" wrote no vggt.1"
    for shell in bash zsh fish; do
        env -i "$1" completions "$shell" >"$2/vggt.$shell"
        [ -s "$2/vggt.$shell" ] || fail "\"$1 completions $shell\" printed nothing"
    done
}

# sign_sums DIST: signs the hashes, which cover all other files, with the key in MINISIGN_KEY.
sign_sums() {
    # A comment of its own, since minisign's would hold the time.
    minisign -S -s "$MINISIGN_KEY" -m "$1/SHA256SUMS" -t "vggt $(package_version), commit $VGGT_COMMIT" >&2
    say "signed $1/SHA256SUMS; to check it: minisign -V -P KEY -m SHA256SUMS && sha256sum -c SHA256SUMS"
}
