# SPDX-License-Identifier: MIT
# options.def and legacy.def as lists in mdoc, for hakmem.conf(5).
#
#   awk -f options-mdoc.awk -v what=options    lib/config/options.def    each option, in sections
#   awk -f options-mdoc.awk -v what=sample     lib/config/options.def    a file for /etc with everything commented out
#   awk -f options-mdoc.awk -v what=SUPERSEDED lib/config/legacy.def     names, and what took their place
#
# An entry is X(...) or XSET(...), over several lines; a comment of one line before entries is a section's title.

BEGIN {
    split("minimal fast balanced learning research", mode_name, " ")
    any = 0
}

/^\/\*.*\*\/$/ && entry == "" {
    title = $0
    gsub(/^\/\* *| *\*\/$/, "", title)
    next
}

/^X(SET)?\(/ { entry = "" ; inside = 1 }

inside {
    entry = entry " " $0
    if ($0 ~ /\)$/ && balanced(entry)) {
        inside = 0
        nr = fields(entry)
        entry = ""
        if (what == "options")
            print_option()
        else if (what == "sample")
            print_sample()
        else if (field[2] == what)
            print_legacy()
    }
}

END {
    if (any && what != "sample")
        print ".El"
}

# Whether all parentheses outside strings are closed.
function balanced(text,    rest) {
    rest = text
    gsub(/"[^"]*"/, "", rest)
    return gsub(/\(/, "", rest) == gsub(/\)/, "", rest)
}

# Splits X(a, b, ...) at commas that stand in no string and no inner parentheses.
function fields(text,    i, c, depth, quoted, n, word) {
    settable = text ~ /^ *XSET\(/
    sub(/^ *X(SET)?\(/, "", text)
    sub(/\) *$/, "", text)
    n = 1
    word = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (c == "\"")
            quoted = !quoted
        if (!quoted && c == "(")
            depth++
        if (!quoted && c == ")")
            depth--
        if (c == "," && !quoted && depth == 0) {
            field[n++] = trim(word)
            word = ""
        } else {
            word = word c
        }
    }
    field[n] = trim(word)
    return n
}

function trim(s) {
    gsub(/^[ \t]+|[ \t]+$/, "", s)
    return s
}

function unquote(s) {
    s = trim(s)
    if (s == "HK_BOOL_WORDS")
        return "off|on"
    gsub(/"/, "", s)
    return s
}

# A C constant expression of the list as people write it: 64 * HK_KIB is 64 KiB.
function number(s) {
    s = trim(s)
    gsub(/UINT64_C\(|\)/, "", s)
    if (s ~ /MAX/)
        return ""
    if (s ~ /^HK_/)
        s = "1 * " s
    sub(/ *\* *HK_KIB/, " KiB", s)
    sub(/ *\* *HK_MIB/, " MiB", s)
    return s
}

function thousandths(s) {
    return sprintf("%.2f", s / 1000)
}

# A value as the user would write it.
function shown(value,    n, group, part) {
    n = split(words, group, "|")
    if ((type == "BOOL" || type == "ENUM" || n > 0) && value ~ /^[0-9]+$/ && value + 1 <= n) {
        split(group[value + 1], part, "/")
        return part[1]
    }
    return type == "RATIO" ? thousandths(value) : number(value)
}

# "x", or "x in mode minimal, else y" when the modes differ.
function preset(text,    n, value, i, j, rest, modes, out) {
    if (text ~ /^SAME\(/) {
        sub(/^SAME\(/, "", text)
        sub(/\)$/, "", text)
        return shown(trim(text))
    }
    sub(/^EACH\(/, "", text)
    sub(/\)$/, "", text)
    n = split(text, value, ",")
    for (i = 1; i <= n; i++)
        value[i] = shown(trim(value[i]))
    if (field[1] == "mode")
        return "balanced"
    # The value of balanced is the rule, the others are named.
    out = value[3]
    for (i = 1; i <= n; i++)
        if (value[i] != value[3])
            out = out "; " value[i] " in mode " mode_name[i]
    return out
}

function section() {
    if (title == "")
        return
    if (any)
        print ".El"
    print ".Ss " toupper(substr(title, 1, 1)) substr(title, 2)
    print ".Bl -tag -width Ds"
    title = ""
    any = 1
}

# Prints text in lines of at most 78 columns; a new sentence starts a new line, as mdoc wants it.
function print_text(text,    n, i, word, line) {
    n = split(text, word, " ")
    line = ""
    for (i = 1; i <= n; i++) {
        if (line != "" && (length(line) + 1 + length(word[i]) > 78 || line ~ /[.?!]$/)) {
            print line
            line = ""
        }
        # A dot at the start of a line would be a request.
        if (line == "" && word[i] ~ /^[.\47]/)
            word[i] = "\\&" word[i]
        line = line (line == "" ? "" : " ") word[i]
    }
    if (line != "")
        print line
}

# First letter in upper case, unless it begins a name in code.
function sentence(s) {
    return (s ~ /^[a-z_0-9]+\(/ ? s : toupper(substr(s, 1, 1)) substr(s, 2)) "."
}

function escape(s) {
    gsub(/\\/, "\\e", s)
    gsub(/-/, "\\-", s)
    return s
}

function print_option(    n, i, group, unit, range, values, low, high) {
    section()
    type = field[2]
    words = unquote(field[7])
    n = split(words, group, "|")
    values = ""
    for (i = 1; i <= n; i++) {
        gsub(/\//, " | ", group[i])
        values = values (i > 1 ? " | " : "") group[i]
    }
    print ".It Ic " field[1] " No = Ar value"
    print_text(sentence(escape(unquote(field[9]))))
    low = type == "RATIO" ? thousandths(field[5]) : number(field[5])
    high = type == "RATIO" ? thousandths(field[6]) : number(field[6])
    if (type != "BOOL" && type != "ENUM") {
        unit = unquote(field[8])
        range = high != "" ? ", " low " to " high : ", at least " low
        print_text("A " kind_name(type) (unit != "" && unit != "bytes" ? " of " unit : "") range \
            (values != "" ? ", or " values : "") ".")
    } else {
        print_text("One of " values ".")
    }
    print_text("Default: " preset(field[4]) ". " \
        (settable ? "May be changed at run time." : "Read at the start only."))
}

function kind_name(t) {
    if (t == "SIZE") return "size"
    if (t == "RATIO") return "ratio"
    if (t == "LIST") return "list of numbers"
    return "number"
}

function print_legacy() {
    if (!any) {
        print ".Bl -tag -width Ds"
        any = 1
    }
    print ".It Ic " field[1]
    print_text(escape(unquote(field[3])) ".")
}

# The default as the file takes it: 64K, not 64 KiB.
function plain(s) {
    sub(/;.*/, "", s)
    gsub(/ KiB/, "K", s)
    gsub(/ MiB/, "M", s)
    return s
}

function print_sample(    n, i, word, line, other) {
    if (title != "")
        print "\n# ---- " title " ----"
    title = ""
    type = field[2]
    words = unquote(field[7])
    gsub(/\/[^|]*/, "", words)
    other = preset(field[4])
    other = other ~ /;/ ? " (" substr(other, index(other, ";") + 2) ")" : ""
    n = split(unquote(field[9]) other (words == "" ? "" : ": " words), word, " ")
    print ""
    line = "#"
    for (i = 1; i <= n; i++) {
        if (length(line) + 1 + length(word[i]) > 78) {
            print line
            line = "#"
        }
        line = line " " word[i]
    }
    print line
    print "#" field[1] " = " plain(preset(field[4]))
}
