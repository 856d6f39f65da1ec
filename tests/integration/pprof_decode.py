#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Decodes a pprof profile (profile.proto, gzipped or not) from its wire format and prints a line per sample:
type=value ... mapping function file:line ... (innermost first). Fails on anything that the format does not allow."""

import gzip
import sys


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a varint of more than 64 bits")


def message(data):
    """{field: [values]}; a length-delimited value is bytes."""
    fields, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            length, at = varint(data, at)
            if at + length > len(data):
                raise ValueError("a field leaves its message")
            value, at = data[at:at + length], at + length
        else:
            raise ValueError(f"wire type {key & 7}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def packed(values):
    out, data, at = [], b"".join(values), 0
    while at < len(data):
        value, at = varint(data, at)
        out.append(value)
    return out


def one(fields, number, default=0):
    return fields.get(number, [default])[0]


def main():
    raw = open(sys.argv[1], "rb").read()
    if "--gzip" in sys.argv and raw[:2] != b"\x1f\x8b":
        sys.exit("not gzipped")
    profile = message(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    strings = [s.decode() for s in profile[6]]
    assert strings[0] == "", "string 0 is not empty"
    types = [(strings[one(t, 1)], strings[one(t, 2)]) for t in map(message, profile[1])]
    mappings = {one(m, 1): strings[one(m, 5)] for m in map(message, profile.get(3, []))}
    functions = {one(f, 1): (strings[one(f, 2)], strings[one(f, 4)]) for f in map(message, profile.get(5, []))}
    locations = {one(loc, 1): loc for loc in map(message, profile.get(4, []))}
    assert 0 not in mappings and 0 not in functions and 0 not in locations, "id 0"
    assert strings[one(profile, 14)] in [name for name, _ in types], "default sample type"
    for sample in map(message, profile.get(2, [])):
        values, ids = packed(sample[2]), packed(sample[1])
        assert len(values) == len(types), "a value per sample type"
        location = locations[ids[0]]
        lines = [f"{functions[one(line, 1)][0]} {functions[one(line, 1)][1]}:{one(line, 2)}"
                 for line in map(message, location.get(4, []))]
        mapping = mappings[one(location, 2)] if one(location, 2) else "?"
        print(*(f"{name}={value}" for (name, _), value in zip(types, values)), mapping, *(lines or ["? ?:0"]))


main()
