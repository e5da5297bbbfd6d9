#!/usr/bin/env python3
"""Mechanical style checks that need no compiler: the direction of includes, fenced libraries,
lengths of lines, functions and files, leftover marks. Prints FILE:LINE: what, and a last line
`1 passed, 0 failed` or the reverse."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ["core", "config", "tls", "route", "quic", "proto", "upstream", "proxy", "admin"]
FENCES = [  # header prefix, files that may include it
    ("liburing", r"core/(ring\w*|bufring)\.[ch]"),
    ("openssl/", r"(tls|quic)/.*"),
    ("ssl/internal.h", r"tls/record\.cc"),
    ("nghttp2/", r"proto/h2_.*"),
    ("nghttp3/", r"proto/h3_.*"),
    ("ngtcp2/", r"quic/.*"),
    ("yaml.h", r"config/yaml\.c"),
    ("re2/", r"route/regex\.cc"),
]
MAX_LINE, MAX_FUNCTION, MAX_FILE, MAX_HEADER = 100, 70, 1000, 400
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
TYPEDEF = re.compile(r"^\s*typedef\s+struct\b")
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')


def room_of(path):
    return path.parts[0] if len(path.parts) > 1 else "main"


def check_include(path, name):
    """path is relative to src/."""
    for prefix, allowed in FENCES:
        if name.startswith(prefix) and not re.fullmatch(allowed, path.as_posix()):
            return f"<{name}> may only be included by {allowed}"
    target = name.split("/")[0]
    room = room_of(path)
    if "/" in name and target in ROOMS and room in ROOMS:
        if ROOMS.index(target) > ROOMS.index(room):
            return f"{room} may not include {name}: rooms include leftward only"
    return None


def function_lengths(lines):
    """Yields (first line, length, text above) of each function: from the line of `{` in column 0."""
    start = None
    for i, line in enumerate(lines):
        if line.startswith("{"):
            start = i
        elif line.startswith("}") and start is not None:
            yield start + 1, i - start + 1
            start = None


def check_file(path):
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    in_src = path.is_relative_to(ROOT / "src")
    for n, line in enumerate(lines, 1):
        if len(line) > MAX_LINE and in_src:
            yield n, f"line of {len(line)} columns"
        if MARKS.search(line):
            yield n, "leftover mark"
        if line.rstrip() != line:
            yield n, "white space at the end of the line"
        if TYPEDEF.match(line):
            yield n, "typedef of a struct"
        m = INCLUDE.match(line)
        if m and in_src:
            what = check_include(path.relative_to(ROOT / "src"), m.group(1))
            if what:
                yield n, what
    if path.suffix == ".h" and "#pragma once" not in text:
        yield 1, "header without #pragma once"
    if len(lines) > (MAX_HEADER if path.suffix == ".h" and path.name != "model.h" else MAX_FILE):
        yield 1, f"file of {len(lines)} lines"
    for n, length in function_lengths(lines):
        above = "\n".join(lines[max(0, n - 8):n])
        if length > MAX_FUNCTION and "tidy: long because" not in above:
            yield n, f"function of {length} lines"
    if in_src and path.suffix == ".c" and not lines[0].startswith("//"):
        yield 1, "the file does not open with what it owns"


def main():
    files = [p for folder in ("src", "tests/unit", "tests/sim", "tests/fuzz", "bench", "tools")
             for p in sorted((ROOT / folder).rglob("*")) if p.suffix in (".c", ".h", ".cc")]
    bad = 0
    for path in files:
        problems = list(check_file(path))
        for n, what in problems:
            print(f"{path.relative_to(ROOT)}:{n}: {what}")
        bad += bool(problems)
    print(f"{len(files)} files, {bad} with findings")
    print("0 passed, 1 failed" if bad else "1 passed, 0 failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
