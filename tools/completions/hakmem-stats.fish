# SPDX-License-Identifier: MIT
# fish completion for hakmem-stats(1)

set -l commands list show top sites hist why config snapshot diff export run core doctor
complete -c hakmem-stats -f
complete -c hakmem-stats -n "not __fish_seen_subcommand_from $commands" -a "$commands"
complete -c hakmem-stats -n "__fish_seen_subcommand_from show top sites hist why config snapshot diff export doctor" \
    -F -a "(hakmem-stats list 2>/dev/null | string match -r '^ *[0-9]+ +\S+' | string trim | string replace -r ' +' \t)"
complete -c hakmem-stats -n "__fish_seen_subcommand_from core" -F
complete -c hakmem-stats -n "__fish_seen_subcommand_from run" -a "(__fish_complete_subcommand)"
complete -c hakmem-stats -l json -d "print JSON"
complete -c hakmem-stats -l bytes -d "exact numbers"
complete -c hakmem-stats -l color -d "use colours"
complete -c hakmem-stats -l no-color -d "no colours"
complete -c hakmem-stats -l fail-if -x -d "exit 1 when the threshold holds"
complete -c hakmem-stats -l exe -r -F -d "program of a core dump"
complete -c hakmem-stats -l format -x -a "json ndjson csv prometheus pprof heap_v2" -d "of export"
complete -c hakmem-stats -l sort -x -a "bytes count lifetime live rss slow kept pid" -d "order"
complete -c hakmem-stats -l limit -x -d "call sites shown"
complete -c hakmem-stats -l count -x -d "looks of top"
complete -c hakmem-stats -s n -l interval -x -d "seconds between looks"
complete -c hakmem-stats -s o -l output -r -F -d "file to write"
complete -c hakmem-stats -s h -l help -d "summary"
complete -c hakmem-stats -s V -l version -d "version"
