# SPDX-License-Identifier: MIT
# bash completion for hakmem-run(1). The options' names come from lib/config/options.def.

_hakmem_run()
{
    local cur prev words cword i
    if declare -F _init_completion >/dev/null; then
        _init_completion -n : || return
    else
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
        cur=${words[cword]} prev=${words[cword - 1]}
    fi

    # From the command on it is the command's own completion.
    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
        -m | -o | --mode | --option) ((i++)) ;;
        --)
            ((i++))
            break
            ;;
        -*) ;;
        *) break ;;
        esac
    done
    if ((i < cword)) || { ((i == cword)) && [[ ${words[i - 1]} == -- || $cur != -* ]] &&
        [[ $prev != -[mo] && $prev != --mode && $prev != --option ]]; }; then
        if ((i == cword)); then
            mapfile -t COMPREPLY < <(compgen -c -- "$cur"; compgen -f -- "$cur")
        elif declare -F _command_offset >/dev/null; then
            _command_offset "$i"
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        return
    fi

    case $prev in
    -m | --mode)
        mapfile -t COMPREPLY < <(compgen -W 'minimal fast balanced learning research' -- "$cur")
        return
        ;;
    -o | --option)
        mapfile -t COMPREPLY < <(compgen -S : -W '@OPTIONS@' -- "$cur")
        compopt -o nospace
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W \
        '--mode --option --inherit --report --verbose --help --version -m -o -i -r -v --' -- "$cur")
}
complete -F _hakmem_run hakmem-run
