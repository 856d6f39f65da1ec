# SPDX-License-Identifier: MIT
# fish completion for hakmem-run(1). The options' names come from lib/config/options.def.

complete -c hakmem-run -s m -l mode -x -a 'minimal fast balanced learning research' -d 'Preset of options'
complete -c hakmem-run -s o -l option -x -a '(string split " " "@OPTIONS@")":"' -d 'Set an option, name:value'
complete -c hakmem-run -s i -l inherit -d 'Programs that the command starts get the library as well'
complete -c hakmem-run -s r -l report -d 'Print the counters at exit'
complete -c hakmem-run -s v -l verbose -d 'Say what is done'
complete -c hakmem-run -l help -d 'Print help'
complete -c hakmem-run -l version -d 'Print the version'
complete -c hakmem-run -x -a '(__fish_complete_subcommand)'
