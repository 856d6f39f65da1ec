#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Completions of hakmem-run, asked as the shells ask them; and the examples for services and systems, tried
# as far as this machine has what reads them.
# $ in single quotes belongs to an inner shell.
# shellcheck disable=SC2016

src=${HK_SRCDIR:-.}
builddir=${HK_BUILDDIR:-$(pwd)}
. "$src/tests/integration/tap.sh"
completions=$builddir/tools/completions
examples=$src/tools/examples
if test ! -d "$completions"; then
    skip "completions" "they are not built"
    finish
fi

holds() { # holds NAME WORD OUTPUT: a line of OUTPUT begins with WORD
    if printf '%s\n' "$3" | grep -q -- "^$2"; then ok "$1"; else not_ok "$1" "no line '$2' in:" "$3"; fi
}

lacks() {
    if printf '%s\n' "$3" | grep -q -- "^$2"; then not_ok "$1" "a line '$2' in:" "$3"; else ok "$1"; fi
}

# --- bash ---

ask_bash() { # ask_bash WORD...: what the last one may become
    bash --norc -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"
        COMP_POINT=${#COMP_LINE}; compopt() { :; }; _hakmem_run; printf "%s\n" "${COMPREPLY[@]}"' - \
        "$completions/bash/hakmem-run" "$@" 2>&1
}
if have bash; then
    holds "bash: options" "--inherit$" "$(ask_bash hakmem-run --)"
    holds "bash: modes" "balanced$" "$(ask_bash hakmem-run --mode b)"
    holds "bash: names of options" "purge_delay_ms:$" "$(ask_bash hakmem-run -r -o purge)"
    holds "bash: the command" "bash$" "$(ask_bash hakmem-run --mode fast bas)"
    holds "bash: the command after --" "bash$" "$(ask_bash hakmem-run -- bas)"
    lacks "bash: the command's own words" "--inherit" "$(cd / && ask_bash hakmem-run ls --)"
else
    skip "bash" "no bash"
fi

# --- fish ---

ask_fish() {
    HOME=$work XDG_CONFIG_HOME=$work XDG_DATA_HOME=$work timeout 60 fish --no-config -c \
        "source '$completions/fish/hakmem-run.fish'; complete -C '$1'" 2>&1
}
if have fish; then
    holds "fish: options" "--inherit" "$(ask_fish 'hakmem-run --i')"
    holds "fish: modes" "balanced" "$(ask_fish 'hakmem-run --mode b')"
    holds "fish: names of options" "purge_delay_ms:" "$(ask_fish 'hakmem-run -o purge')"
else
    skip "fish" "no fish"
fi

# --- zsh: what the function hands to the completion system ---

ask_zsh() { # ask_zsh FUNCTION
    timeout 60 zsh -f -c '_arguments() { print -rl -- "$@" }; compadd() { print -rl -- "$@" }
        . "$1"; print -- ---; $2' - "$completions/zsh/_hakmem-run" "$1" 2>&1
}
if have zsh; then
    holds "zsh: modes" '.*--mode.*(minimal fast balanced learning research)$' "$(ask_zsh true)"
    holds "zsh: options" '.*--inherit' "$(ask_zsh true)"
    holds "zsh: names of options" 'purge_delay_ms$' "$(ask_zsh _hakmem_run_option)"
    if out=$(zsh -f -c 'fpath=("$1" $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[hakmem-run]' - \
        "$completions/zsh" 2>&1) && test "$out" = _hakmem-run; then
        ok "zsh: it is found"
    else
        not_ok "zsh: it is found" "$out"
    fi
else
    skip "zsh" "no zsh"
fi

# --- examples ---

if have systemd-analyze; then
    mkdir -p "$work/hakmem-test.service.d"
    printf '[Service]\nExecStart=/bin/true\n' >"$work/hakmem-test.service"
    cp "$examples/systemd-drop-in.conf" "$work/hakmem-test.service.d/hakmem.conf"
    if out=$(systemd-analyze verify --man=no "$work/hakmem-test.service" 2>&1) &&
        ! echo "$out" | grep -q hakmem.conf; then
        ok "systemd takes the drop-in"
    else
        not_ok "systemd takes the drop-in" "$out"
    fi
    echo 'Nonsense=1' >>"$work/hakmem-test.service.d/hakmem.conf"
    out=$(systemd-analyze verify --man=no "$work/hakmem-test.service" 2>&1)
    if echo "$out" | grep -q Nonsense; then
        ok "negative control: a line that systemd does not know"
    else
        not_ok "negative control: a line that systemd does not know" "$out"
    fi
else
    skip "systemd takes the drop-in" "no systemd-analyze"
fi

generator=/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator
if test -x $generator; then
    mkdir -p "$work/config/environment.d"
    cp "$examples/environment.d.conf" "$work/config/environment.d/50-hakmem.conf"
    out=$(env -u LD_PRELOAD XDG_CONFIG_HOME="$work/config" HOME="$work" $generator 2>&1)
    holds "environment.d" 'LD_PRELOAD=libhakmem.so.0$' "$out"
    echo 'LD_PRELOAD=other.so' >"$work/config/environment.d/40-other.conf"
    out=$(env -u LD_PRELOAD XDG_CONFIG_HOME="$work/config" HOME="$work" $generator 2>&1)
    holds "environment.d: what is preloaded stays" 'LD_PRELOAD=libhakmem.so.0:other.so$' "$out"
else
    skip "environment.d" "no $generator"
fi

if have apparmor_parser && test -f /etc/apparmor.d/tunables/global; then
    mkdir -p "$work/apparmor.d"
    cp -r /etc/apparmor.d/abi /etc/apparmor.d/tunables /etc/apparmor.d/abstractions "$work/apparmor.d/"
    cp "$examples/apparmor-hakmem" "$work/apparmor.d/abstractions/hakmem"
    printf 'abi <abi/3.0>,\ninclude <tunables/global>\nprofile p /p {\n  include <abstractions/base>\n  include <abstractions/hakmem>\n}\n' \
        >"$work/profile"
    if out=$(apparmor_parser --skip-cache --skip-kernel-load --base "$work/apparmor.d" "$work/profile" 2>&1); then
        ok "AppArmor takes the abstraction"
    else
        not_ok "AppArmor takes the abstraction" "$out"
    fi
else
    skip "AppArmor takes the abstraction" "no apparmor_parser"
fi

# /etc/ld.so.preload in a mount namespace of its own.
if test -n "$lib" && have unshare && unshare -m true 2>/dev/null; then
    echo "$lib" >"$work/ld.so.preload"
    out=$(unshare -m sh -c 'mkdir -p "$2/upper" "$2/work" && mount -t tmpfs none "$2/upper" &&
        mkdir "$2/upper/u" "$2/upper/w" &&
        mount -t overlay overlay -o lowerdir=/etc,upperdir="$2/upper/u",workdir="$2/upper/w" /etc || exit 77
        cp "$1" /etc/ld.so.preload || exit 77
        sh -c "grep -q libhakmem /proc/self/maps && ls / | sort | wc -l && env -i grep -q libhakmem /proc/self/maps && echo all"' \
        - "$work/ld.so.preload" "$work" 2>&1)
    status=$?
    if test $status -eq 77; then
        skip "/etc/ld.so.preload" "no overlay in a mount namespace"
    else
        holds "/etc/ld.so.preload" 'all$' "$out"
    fi
else
    skip "/etc/ld.so.preload" "no mount namespaces"
fi

finish
