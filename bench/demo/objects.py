# SPDX-License-Identifier: MIT
"""What Python programs do to an allocator: dictionaries, strings, lists, JSON there and back.
Run with PYTHONMALLOC=malloc, so that each object is a malloc of its own."""

import hashlib
import json


def record(i):
    return {"id": i, "name": f"user-{i}", "tags": [f"t{i % k}" for k in range(2, 9)],
            "position": {"x": i * 7 % 1000, "y": i * 13 % 1000}, "note": "n" * (i % 97)}


def main():
    digest = hashlib.sha256()
    table = {}
    for i in range(60000):
        table[f"key-{i}"] = record(i)
        if i % 3 == 0:
            table.pop(f"key-{i // 2}", None)
    for _ in range(3):
        text = json.dumps(table, sort_keys=True)
        table = json.loads(text)
        digest.update(text.encode())
    words = {}
    for word in text.replace('"', " ").split():
        words[word] = words.get(word, 0) + 1
    digest.update(str(sorted(words.items())[:1000]).encode())
    print(digest.hexdigest())


main()
