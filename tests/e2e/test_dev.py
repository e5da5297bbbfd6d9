"""`./dev` itself: what it refuses, what it says is missing, and how it ends. Nothing is fetched or built here."""
import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("bash", "cat", "cut", "dirname", "env", "find", "flock", "grep", "id", "ln", "mkdir", "mktemp", "realpath",
         "rm", "sed", "sha256sum", "sleep", "sort")


@pytest.fixture
def machine(tmp_path):
    """A machine with next to no tools, nothing fetched yet, and a checkout of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "build/deps", checkout / "build/deps")
    shutil.copytree(ROOT / "tests/fuzz", checkout / "tests/fuzz", ignore=shutil.ignore_patterns("corpus"))
    for name in ("src", "bench", "tools"):
        (checkout / name).mkdir()
    shutil.copy(ROOT / "dev", checkout)
    machine = Machine(folder, tmp_path / "cache", checkout)
    yield machine
    for process in machine.started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it left behind
        process.wait()


class Machine:
    def __init__(self, folder, cache, checkout):
        self.folder, self.cache, self.checkout, self.started = folder, cache, checkout, []

    def tool(self, name, text):
        script(self.folder / name, text)

    def fetched(self, name, *digest_of):
        """A fetch that is complete, empty as yet."""
        content = b"".join((ROOT / "build/deps" / f).read_bytes() for f in digest_of)
        folder = self.cache / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
        folder.mkdir(parents=True)
        (folder / "done").touch()
        return folder

    def zig(self, text):
        script(self.fetched("zig", "zig.txt") / "venv/bin/zig", text)

    def dev(self, *args):
        env = {"PATH": str(self.folder), "HOME": str(self.cache), "SLUICE_CACHE": str(self.cache)}
        # Tests may run where SIGINT is ignored (a shell's background), and a shell cannot change that.
        process = subprocess.Popen([self.checkout / "dev", *args], env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.started.append(process)
        return process

    def said(self, *args):
        """The last line, of a command that fails."""
        process = self.dev(*args)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 1, out
        return out.splitlines()[-1]


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def test_dev_help_names_every_command(machine):
    process = machine.dev("help")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    for command in ("build", "run", "test", "bench", "fuzz", "lint", "clean"):
        assert f"\n  {command} " in out


@pytest.mark.parametrize(("args", "said"), [
    (["biuld"], "dev: unknown command 'biuld'"),
    (["build", "--fast"], "dev: build does not take '--fast'; ./dev help says what it takes"),
    (["build", "--debug", "x"], "dev: build does not take 'x'; ./dev help says what it takes"),
    (["build", "--target"], "dev: build --target wants a target, for instance x86_64-linux-musl"),
    (["test", "--sanitise"], "dev: test does not take '--sanitise'; ./dev help says what it takes"),
    (["test", "ring", "tcp"], "dev: test does not take 'tcp'; ./dev help says what it takes"),
    (["lint", "src"], "dev: lint does not take 'src'; ./dev help says what it takes"),
    (["clean", "--all"], "dev: clean does not take '--all'; ./dev help says what it takes"),
    (["fuzz", "xml"], "dev: no fuzz target xml; there are: "),
])
def test_dev_refuses_what_it_does_not_take(machine, args, said):
    assert machine.said(*args).startswith(said)
    assert not machine.cache.exists()


def test_dev_says_which_tool_to_install(machine):
    """Without root, or where there is no apt."""
    assert machine.said("fuzz", "h1") == (
        "dev: 'clang-19' is missing: install it (Debian: apt-get install clang-19) and run this again")
    machine.zig("exit 1")
    assert machine.said("build") == (
        "dev: 'cargo' is missing: install it (Debian: apt-get install cargo) and run this again")


def test_dev_says_that_cargo_is_too_old(machine):
    machine.zig("exit 1")
    machine.tool("cargo", "echo 'cargo 1.65.0'")
    assert machine.said("build").startswith("dev: cargo 1.65.0 is too old, 1.85 is needed: ")


def test_dev_clean_leaves_what_was_fetched(machine):
    machine.zig("exit 1")
    kept = [machine.cache / "fuzz/h1/found", next(machine.cache.glob("zig-*/done"))]
    gone = [machine.checkout / "zig-out/bin/sluice"] + [machine.cache / p for p in ("zig-local/o", "zig-global/o", "lint/o")]
    for file in kept + gone:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    process = machine.dev("clean")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert all(f.exists() for f in kept) and not any(f.exists() for f in gone)


def test_dev_ends_when_interrupted(machine):
    """Also where what it runs ends well upon Ctrl-C, and at once: no heartbeat keeps its output open."""
    machine.fetched("sources", "Cargo.lock", "npm.sha256")
    machine.zig("trap 'exit 0' INT; echo compiling; while :; do sleep 0.1; done")
    process = machine.dev("build")
    assert any("compiling" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "built" not in out


def test_the_demo_names_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = subprocess.run(["bash", ROOT / "tools/demo.sh"], capture_output=True, text=True, timeout=20,
                                check=False, env={**os.environ, "SLUICE_DEMO_PORT": str(port)})
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(f"demo: port {port} is taken by another program")
