#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One version everywhere: configure.ac says it; hakmem.h, NEWS, the map and debian/ agree."""

import re

from lint import SRC, Tap, scratch, write_tree


def first(pattern, path, missing_is_fine=False):
    if not path.exists():
        return None if missing_is_fine else f"{path.name} is missing"
    match = re.search(pattern, path.read_text(), re.M)
    return ".".join(match.groups()) if match else "nothing"


def violations(root):
    define = r"^m4_define\(\[HK_VERSION_{}\], \[(\d+)\]\)"
    version = ".".join(first(define.format(part), root / "configure.ac")
                       for part in ("MAJOR", "MINOR", "PATCH"))
    header = r"^#define HAKMEM_VERSION_MAJOR (\d+)\n#define HAKMEM_VERSION_MINOR (\d+)\n" \
             r"#define HAKMEM_VERSION_PATCH (\d+)$"
    claims = {
        "include/hakmem/hakmem.h": first(header, root / "include/hakmem/hakmem.h"),
        "NEWS": first(r"^(\d+\.\d+\.\d+) \(", root / "NEWS"),
        "debian/changelog": first(r"^\S+ \((?:\d+:)?(\d+\.\d+\.\d+)", root / "debian/changelog", True),
    }
    found = [f"{name} says {claim}, configure.ac {version}"
             for name, claim in claims.items() if claim not in (None, version)]
    node = first(r"^HAKMEM_(\d+\.\d+) \{", root / "lib/libhakmem.map")
    if node is None or not (version + ".").startswith(node + "."):
        newest = [m for m in re.findall(r"^HAKMEM_(\d+\.\d+) \{",
                                        (root / "lib/libhakmem.map").read_text(), re.M)]
        if not newest or max(tuple(map(int, n.split("."))) for n in newest) > \
                tuple(map(int, version.split(".")[:2])):
            found.append(f"libhakmem.map has nodes {newest}, configure.ac says {version}")
    return found


TREE = {
    "configure.ac": "m4_define([HK_VERSION_MAJOR], [1])\nm4_define([HK_VERSION_MINOR], [2])\n"
                    "m4_define([HK_VERSION_PATCH], [3])\n",
    "include/hakmem/hakmem.h": "#define HAKMEM_VERSION_MAJOR 1\n#define HAKMEM_VERSION_MINOR 2\n"
                               "#define HAKMEM_VERSION_PATCH 3\n",
    "NEWS": "NEWS\n\n1.2.3 (2030-01-01)\n",
    "lib/libhakmem.map": "HAKMEM_0.9 {\n};\nHAKMEM_1.2 {\n};\n",
}


def main():
    tap = Tap()
    tap.clean(violations(SRC), "one version everywhere")
    with scratch() as directory:
        tap.clean(violations(write_tree(directory, TREE)), "agreeing files are not reported")
        for name, old, new in (("NEWS", "1.2.3", "1.2.4"),
                               ("include/hakmem/hakmem.h", "PATCH 3", "PATCH 4"),
                               ("lib/libhakmem.map", "1.2", "1.3")):
            bad = write_tree(directory, {**TREE, name: TREE[name].replace(old, new)})
            tap.caught(violations(bad), name.split("/")[-1], f"{name} of another version")
    tap.done()


main()
