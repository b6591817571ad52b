# Sourced by scripts/demo and scripts/test: what a machine needs to build Ringtrue.
# shellcheck shell=bash

RUST_NEEDED=1.91
BUILD_PACKAGES=(build-essential cmake pkg-config libasound2-dev)

say() { printf '%s\n' "$*" >&2; }

# Fails with the line to run when rustc is missing or older than the workspace needs.
check_rust() {
    local line='curl --proto "=https" --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . "$HOME/.cargo/env"'
    # A fresh rustup is often not in this shell's PATH yet.
    if ! command -v rustc >/dev/null && [ -x "$HOME/.cargo/bin/rustc" ]; then export PATH="$HOME/.cargo/bin:$PATH"; fi
    if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
        say "Rust is missing (rustc and cargo $RUST_NEEDED or newer). Run:"
        say "    $line"
        return 1
    fi
    local have
    have=$(rustc --version | awk '{print $2}')
    if [ "$(printf '%s\n%s\n' "$RUST_NEEDED" "${have%%-*}" | sort -V | head -n1)" != "$RUST_NEEDED" ]; then
        say "rustc $have is too old; $RUST_NEEDED or newer is needed. Run:"
        if command -v rustup >/dev/null; then say "    rustup update stable && rustup default stable"; else say "    $line"; fi
        return 1
    fi
}

# The packages of the list above that this machine lacks, judged by what they give.
lacking_packages() {
    command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null || echo build-essential
    command -v cmake >/dev/null || echo cmake
    command -v pkg-config >/dev/null || { echo pkg-config; echo libasound2-dev; return; }
    pkg-config --exists alsa || echo libasound2-dev
}

# Installs what is missing when root; otherwise prints the one line to run and fails.
install_build_packages() {
    local lacking
    mapfile -t lacking < <(lacking_packages)
    [ ${#lacking[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        say "Missing, and this is no Debian or Ubuntu: a C and C++ compiler, cmake, pkg-config, the ALSA headers"
        say "(Debian calls them ${BUILD_PACKAGES[*]})."
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "Missing: ${lacking[*]}. Run:"
        say "    sudo apt-get update && sudo apt-get install -y ${lacking[*]}"
        return 1
    fi
    say "installing ${lacking[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lacking[@]}" >/dev/null
}
