# SPDX-License-Identifier: MIT
# bash completion for hakmem-stats(1)

_hakmem_stats()
{
    local cur prev command='' i
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -*) ;;
        *)
            command=${COMP_WORDS[i]}
            break
            ;;
        esac
    done
    case $prev in
    --format) mapfile -t COMPREPLY < <(compgen -W 'json ndjson csv prometheus pprof heap_v2' -- "$cur") && return ;;
    --sort)
        mapfile -t COMPREPLY < <(compgen -W 'bytes count lifetime live rss slow kept pid' -- "$cur")
        return
        ;;
    --exe | --output | -o)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --fail-if)
        mapfile -t COMPREPLY < <(compgen -W 'live mapped cached slab_free dirty purged metadata rss' -- "$cur")
        return
        ;;
    --limit | --count | --interval | -n) return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--json --bytes --color --no-color --fail-if --exe --format --sort
            --limit --count --output --interval --help --version' -- "$cur")
        return
    fi
    case $command in
    '')
        mapfile -t COMPREPLY < <(compgen -W 'list show top sites hist why config snapshot diff export run core
            doctor' -- "$cur")
        ;;
    run) mapfile -t COMPREPLY < <(compgen -c -- "$cur") ;;
    core) mapfile -t COMPREPLY < <(compgen -f -W 'show sites hist why config snapshot export' -- "$cur") ;;
    list) ;;
    *)
        # Processes that export, then snapshots.
        mapfile -t COMPREPLY < <(compgen -W "$(hakmem-stats list 2>/dev/null |
            while read -r pid _; do [[ $pid == [0-9]* ]] && echo "$pid"; done)" -- "$cur"
            compgen -f -- "$cur")
        ;;
    esac
}
complete -o filenames -F _hakmem_stats hakmem-stats
