#!/usr/bin/env python3
"""clang-format and clang-tidy over our C and C++ files.

    lint.py format CLANG-FORMAT                  what clang-format would change
    lint.py tidy CLANG-TIDY ZIG FLAGS CACHE      clang-tidy on src/, with a compilation database

FLAGS is the folder that `zig build lint` wrote. The headers are Zig's, so that the result does not
depend on this machine. A file that passed is not looked at again until it, a header, a flag or the
configuration changes; CACHE keeps what passed. The last line is `N passed, N failed`."""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORMATTED = ("src", "tests/unit/libs", "tools")


def files(folders, endings):
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*")) if p.suffix in endings]


def end(passed, failed):
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def check_format(clang_format):
    paths = files(FORMATTED, (".c", ".h", ".cc"))
    bad = 0
    for path in paths:
        run = subprocess.run([clang_format, "--dry-run", "-Werror", "--ferror-limit=3", path],
                             capture_output=True, text=True, cwd=ROOT, check=False)
        bad += run.returncode != 0
        sys.stdout.write(run.stderr)
    print(f"{len(paths)} files, {bad} to format")
    return end(int(not bad), int(bool(bad)))


def compiler_flags(zig, language):
    """Defines and folders of system headers, as the compiler itself says."""
    said = subprocess.run([zig, "c++" if language == "c++" else "cc", "-target", "x86_64-linux-gnu",
                           "-E", "-v", "-x", language, os.devnull],
                          capture_output=True, text=True, check=True).stderr
    words = shlex.split(next(line for line in said.splitlines() if "-cc1" in line))
    out = ["--target=x86_64-linux-gnu", "-nostdinc"] + (["-nostdinc++"] if language == "c++" else [])
    for option, value in zip(words, words[1:]):
        if option == "-D":
            out.append("-D" + value)
        elif option == "-isystem":
            out += [option, value]
    return out


def own_flags(folder, name):
    """Libraries' headers are system headers here: what is in them is not ours to mend."""
    for line in (pathlib.Path(folder) / name).read_text().splitlines():
        yield from ("-isystem", line[2:]) if line.startswith("-I") else (line,)


def database(zig, folder):
    """Writes zig-out/compile_commands.json and returns its entries."""
    entries = []
    for language, ending, name in (("c", ".c", "cflags"), ("c++", ".cc", "cxxflags")):
        flags = compiler_flags(zig, language) + list(own_flags(folder, name)) + ["-Isrc"]
        for path in files(("src",), (ending,)):
            relative = str(path.relative_to(ROOT))
            entries.append({"directory": str(ROOT), "file": relative,
                            "arguments": ["clang", *flags, "-c", relative]})
    (ROOT / "zig-out").mkdir(exist_ok=True)
    (ROOT / "zig-out/compile_commands.json").write_text(json.dumps(entries, indent=1))
    return entries


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else str(part).encode())
        h.update(b"\0")
    return h.hexdigest()[:32]


def check_tidy(clang_tidy, zig, folder, cache):
    entries = database(zig, folder)
    passed_before = pathlib.Path(cache)
    passed_before.mkdir(parents=True, exist_ok=True)
    common = digest((ROOT / ".clang-tidy").read_bytes(), clang_tidy,
                    *(p.read_bytes() for p in files(("src",), (".h",))))

    def one(entry):
        flags = [a for a in entry["arguments"] if not a.startswith(str(ROOT))]
        mark = passed_before / digest(common, *flags, (ROOT / entry["file"]).read_bytes())
        if mark.exists():
            return entry["file"], True, ""
        run = subprocess.run([clang_tidy, "--quiet", "-p", ROOT / "zig-out", entry["file"]],
                             capture_output=True, text=True, cwd=ROOT, check=False)
        if run.returncode == 0:
            mark.touch()
            return entry["file"], True, ""
        return entry["file"], False, run.stdout or run.stderr

    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for n, (name, ok, text) in enumerate(pool.map(one, entries), 1):
            bad += not ok
            sys.stdout.write(text.replace(f"{ROOT}/", ""))
            if n % 25 == 0 or not ok:
                print(f"{n} of {len(entries)}: {name}", flush=True)
    return end(len(entries) - bad, bad)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "format":
        return check_format(sys.argv[2])
    if len(sys.argv) == 6 and sys.argv[1] == "tidy":
        return check_tidy(*sys.argv[2:])
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
