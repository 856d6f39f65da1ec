#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Memory-order labels. Beside each atomic operation that is not relaxed stands a comment such as

    /* T2 release, pairs with T5 in tiny_remote.c: publishes next */

The labels it pairs with exist, name it back, and order the other way. A label that stands in several
places plays one role: same order, same partners. The operation beside it has at least that order."""

import re

from lint import SRC, Tap, scratch, sources, strip_comments, write_tree

COMMENT = re.compile(r"/\*.*?\*/|(?:[ \t]*//[^\n]*\n?)+", re.S)
ORDER = r"(release|acquire|acq_rel|full fence|fence)"
# The names after "pairs with": T1, T2 and T3
LABEL = re.compile(rf"\b([A-Z]+\d+[a-z]?)\s+{ORDER}\b([^.;:]*)")
NAMES = re.compile(r"pairs with\s+((?:[A-Z]+\d+[a-z]?(?:\s*,\s*|\s+and\s+|\s+or\s+)?)+)")
OPERATION = re.compile(r"\bhk_(load|store|exchange|add|sub|and|or|cas|fetch\w*)_"
                       r"(acquire|release|acq_rel)\s*\(|\bhk_fence_\w+\s*\(|"
                       r"__ATOMIC_(ACQUIRE|RELEASE|ACQ_REL|SEQ_CST|CONSUME)")
OPPOSITE = {"release": {"acquire"}, "acquire": {"release"}, "acq_rel": {"acquire", "release"},
            "fence": {"fence"}, "full fence": {"fence"}}
ANY = re.compile(r"\bhk_(load|store|exchange|add|sub|and|or|cas|fetch)\w*_\w+\s*\(")
REACH = 8  # lines between the end of a label's comment and its operation
VOCABULARY = "lib/sync/atomic.h"  # defines the operations; uses none


def sides(order):
    """What an order does: an acq_rel does both."""
    if "fence" in order:
        return {"fence", "acquire", "release"}
    return {"acquire", "release"} if order == "acq_rel" else {order}


def order_of(operation):
    """What a match of OPERATION does."""
    if operation.group(0).startswith("hk_fence"):
        return "full fence"
    order = (operation.group(2) or operation.group(3)).lower()
    return "full fence" if order == "seq_cst" else "acquire" if order == "consume" else order


def unmet(order, end, operations, own, owned):
    """Nothing near a label's comment does what the label says. own: the line of an operation whose comment it is, which
    then is the one that has to. owned: the lines of operations with such comments, which do it for no other."""
    wanted = {"fence"} if "fence" in order else {"acquire", "release"} if order == "acq_rel" else {order}
    first, last = (own, own) if own else (end - 1, end + REACH)
    return not any(first <= line <= last and wanted <= sides(did) and (own or line not in owned) for line, did in operations)


def own_line(text, comment):
    """Where the comment stands behind an operation; else 0."""
    start = text.rfind("\n", 0, comment.start()) + 1
    return text.count("\n", 0, comment.start()) + 1 if ANY.search(text[start:comment.start()]) else 0


def read_file(path, name):
    """Labels {name: (order, partners, place)} with the lines where their comments end, and own_line."""
    text = path.read_text()
    labels, ends, owns = [], [], []
    for comment in COMMENT.finditer(text):
        words = re.sub(r"\s+", " ", re.sub(r"\n[ \t]*(\*|//)?", " ", comment.group(0)))
        for match in LABEL.finditer(words):
            line = text.count("\n", 0, comment.start()) + 1
            partners = NAMES.search(match.group(3))
            partners = re.findall(r"[A-Z]+\d+[a-z]?", partners.group(1)) if partners else []
            labels.append((match.group(1), match.group(2), partners, f"{name}:{line}"))
            ends.append(text.count("\n", 0, comment.end()) + 1)
            owns.append(own_line(text, comment))
    return text, labels, ends, owns


def violations(root):
    found, table = [], {}
    for path in sources(root / "lib", ".c", ".h"):
        name = str(path.relative_to(root))
        if name == VOCABULARY:
            continue
        text, labels, ends, owns = read_file(path, name)
        for label, order, partners, place in labels:
            if label in table and (table[label][0], set(table[label][1])) != (order, set(partners)):
                found.append(f"{place}: {label} is not what it is in {table[label][2]}")
            if not partners:
                found.append(f"{place}: {label} names no partner")
            table[label] = (order, partners, place)
        code = strip_comments(text, keep_strings=False)
        operations = [(code.count("\n", 0, m.start()) + 1, order_of(m)) for m in OPERATION.finditer(code)]
        for (label, order, _, place), end, own in zip(labels, ends, owns):
            if unmet(order, end, operations, own, set(owns)):
                found.append(f"{place}: {label}: no operation that is {order} stands beside it")
        for match in OPERATION.finditer(code):
            line = code.count("\n", 0, match.start()) + 1
            if not any(line - REACH <= end <= line + 1 for end in ends):
                found.append(f"{name}:{line}: {match.group(0)} has no label")
    for label, (order, partners, place) in sorted(table.items()):
        for partner in partners:
            if partner not in table:
                found.append(f"{place}: {label} pairs with {partner}, which does not exist")
                continue
            other, back, where = table[partner]
            if label not in back:
                found.append(f"{place}: {label} pairs with {partner}, which does not name it ({where})")
            if label != partner and not any(OPPOSITE[s] & sides(other) for s in sides(order)):
                found.append(f"{place}: {label} {order} pairs with {partner} {other}")
    return found


BAD = {
    "lib/a/a.c": """
void f(void)
{
    /* A1 release, pairs with A9: publishes x */
    hk_store_release(&x, 1);
    /* A2 release, pairs with A3 */
    hk_store_release(&x, 1);
    // A3 release, pairs
    // with A2
    hk_store_release(&x, 1);
    // A4 acquire, pairs with A2
    hk_load_acquire(&x);
    // A5 acquire
    hk_load_acquire(&x);
    // A5 release, pairs with A2
    int pad[8];
    pad[0] = 1;
    pad[1] = 1;
    pad[2] = 1;
    pad[3] = 1;
    pad[4] = 1;
    pad[5] = 1;
    pad[6] = 1;
    pad[7] = 1;
    hk_load_acquire(&x);
}
""",
    "lib/a/b.c": """
    /* B1 release, pairs with B2 */
    hk_store_relaxed(&x, 1);
    hk_load_acquire(&x); /* B2 acquire, pairs with B1 */
    hk_load_relaxed(&y); /* B3 acquire, pairs with B1 */
    hk_load_acquire(&z); /* B4 acquire, pairs with B1 */
    /* B5 acquire, pairs with B1 */
    hk_load_relaxed(&v);
    hk_load_acquire(&w); /* B6 acquire, pairs with B1 */
""",
}
GOOD = {
    "lib/a/a.c": """
    /* G1 release, pairs with G2 and G3 in b.c: publishes
     * the rest */
    hk_store_release(&x, 1);
    hk_load_relaxed(&x); /* the owner alone writes it */
    /* G4 acq_rel, pairs with G4: a queue's head, exchanged by everybody */
    hk_exchange_acq_rel(&x, 1);
""",
    "lib/a/b.c": """
    hk_load_acquire(&x); /* G2 acquire, pairs with G1 */
    hk_load_acquire(&x); /* G3 acquire, pairs with G1 */
    /* Dekker: F1 full fence, pairs with F2 */ hk_fence_full();
    /* F2 full fence, pairs with F1 */ hk_fence_full();
""",
}


def main():
    tap = Tap()
    tap.clean(violations(SRC), "every ordered atomic operation has a label with its partner")
    with scratch() as directory:
        found = violations(write_tree(directory, BAD))
        tap.caught(found, "A1 pairs with A9, which does not exist", "a partner that does not exist")
        tap.caught(found, "A3 release pairs with A2 release|A2 release pairs with A3 release", "two releases")
        tap.caught(found, "A4 pairs with A2, which does not name it", "a partner that does not know")
        tap.caught(found, "A5 names no partner", "a label without partner")
        tap.caught(found, "A5 is not what it is", "a label with two meanings")
        tap.caught(found, "B1: no operation that is release", "an operation weaker than its label")
        tap.caught(found, "B3: no operation that is acquire", "the same with a strong one on the next line")
        tap.caught(found, "B5: no operation that is acquire", "the same, the strong one with a label of its own")
        tap.caught(found, r"a.c:25: hk_load_acquire\( has no label", "an operation without label")
    with scratch() as directory:
        tap.clean(violations(write_tree(directory, GOOD)), "good labels are not reported")
    tap.done()


main()
