# SPDX-License-Identifier: Apache-2.0
"""Each command as a user gives it, on this system, with the seconds that it took: ``python -m tests.walk [WORD…]``.

Words choose rows. A first word that is the address of a real Conductor, http://…/api, has the rows that want a
platform run on it; else that is a sandbox. ``.ci/windows table`` and ``engine`` run both on Windows Pythons. Each row
asserts what it tells of; the last line counts them, and the exit code is 1 when one failed.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
import time
import traceback
import unittest
from collections import Counter
from pathlib import Path
from typing import Any, Callable

from tests.support import IS_WINE
from tests.walkbox import AGENT_TEXT, BREAK, PATIENCE_S, ROOT, Walk, within
from tests.workerbox import AGENT

Row = Callable[[Walk], Any]
ROWS: list[Row] = []
ENGINE_ROWS: list[Row] = []  # of them: what is asked of a real engine too


def row(call: Row) -> Row:
    """A row of the table, named by its docstring. What it returns are its seconds, if not the time that it took."""
    ROWS.append(call)
    return call


def engine_row(call: Row) -> Row:
    ENGINE_ROWS.append(call)
    return row(call)


# -- commands that end -----------------------------------------------------------------------------------


@engine_row
def bare(walk: Walk) -> float:
    """python -c pass, the best of 5"""
    Walk.bare_s = min(walk.command(sys.executable, "-c", "pass").took_s for _ in range(5))
    return walk.bare_s


@row
def invoke(walk: Walk) -> float:
    """invoke, the best of 5: at most 3 x that and 0.5 s (not of Wine, where a look at a folder takes 1 ms)"""
    walk.invoke("agent.py")  # what it imports is compiled
    took_s = min(walk.invoke("agent.py", "-i", "input.json").took_s for _ in range(5))
    return took_s if IS_WINE else within(3 * walk.bare_s + 0.5, took_s)


@row
def init(walk: Walk) -> None:
    """init --vendor, its invoke -r, its test"""
    walk.command("init", "bot", "--vendor")
    walk.invoke("agent.py", "-i", "input.json", "-r", folder=walk.folder / "bot", PYTHONPATH="")
    bot = walk.folder / "bot"
    ended = walk.command(sys.executable, "-m", "unittest", folder=bot, PYTHONPATH=str(bot))
    assert "\nOK" in ended.err, ended


@row
def history(walk: Walk) -> None:
    """invoke -r twice; history as table, --json, --jsonl, CSV to stdout and to a file, --html; hd last"""
    for _ in range(2):
        walk.invoke("agent.py", "-r")
    assert "success" in walk.command("history").out
    assert len(json.loads(walk.command("history", "--json").out)) == 2
    assert len(walk.command("history", "--jsonl").out.splitlines()) == 2
    assert len(walk.command("history", "-e", "-").out.splitlines()) == 3
    walk.command("history", "-e", "out.csv")
    walk.command("history", "--html", "report.html")
    assert "<script" in (walk.folder / "report.html").read_text("utf-8")
    assert "success" in walk.command("hd", "last").out


@row
def check(walk: Walk) -> float:
    """check, of a platform and an agent"""
    with walk.platform():
        return walk.command("check", "agent.py").took_s


@row
def letters(walk: Walk) -> float:
    """invoke, history, init and version in a folder with spaces and Vietnamese letters, into a pipe of few letters"""
    folder = walk.folder / "Bot kế toán số 2"
    folder.mkdir()
    (folder / "tác nhân.py").write_text(AGENT_TEXT, "utf-8")
    walk.invoke("tác nhân.py", "-r", folder=folder)
    walk.command("history", folder=folder)
    walk.command("hd", "last", folder=folder)
    walk.command("init", "bản sao", "--vendor", folder=folder)
    return walk.command("version", folder=folder / "bản sao", PYTHONPATH="").took_s


@row
@unittest.skipUnless(sys.platform == "win32", "drives are Windows'")
def drive(walk: Walk) -> float:
    """a path relative to a drive's own folder, C:agent.py"""
    return walk.invoke(f"{walk.folder.drive}agent.py").took_s


@row
@unittest.skipUnless(sys.platform == "win32", "such paths are Windows'")
def extended(walk: Walk) -> float:
    r"""a path that begins with \\?\ """
    return walk.invoke(f"\\\\?\\{walk.folder}\\agent.py").took_s


@row
@unittest.skipUnless(sys.platform == "win32", "shares are Windows'")
@unittest.skipIf(IS_WINE, "Wine lacks shares")
def share(walk: Walk) -> float:
    r"""a path of a share, \\localhost\C$\..."""
    return walk.invoke(f"\\\\localhost\\{walk.folder.drive[0]}${str(walk.folder)[2:]}\\agent.py").took_s


@row
@unittest.skipIf(IS_WINE, "Wine lacks the final name of a long path")
def long(walk: Walk) -> float:
    """a path of more than 260 characters"""
    prefix = "\\\\?\\" if sys.platform == "win32" else ""
    deep = Path(prefix + str(walk.folder.joinpath(*["d" * 50] * 6)))
    deep.mkdir(parents=True)
    (deep / "agent.py").write_text(AGENT_TEXT, "utf-8")
    return walk.invoke(str(deep / "agent.py")).took_s


@row
def read_only(walk: Walk) -> float:
    """invoke -r where nothing can be written: its answer, and what is not recorded"""
    folders = [path for path in map(Path, ("Z:\\sys", "/sys", "/System")) if path.is_dir()]
    if not folders:
        raise unittest.SkipTest("no such folder here")
    ended = walk.invoke(str(walk.folder / "agent.py"), "-r", folder=folders[0])
    assert "not recorded now" in ended.err, ended
    return ended.took_s


@row
def held(walk: Walk) -> None:
    """history --html and history-prune while another program has the report and the history open"""
    walk.invoke("agent.py", "-r")
    walk.write("report.html", "old")
    with open(walk.folder / "report.html", "rb"), open(walk.folder / "execution_history.db", "rb"):
        if sys.platform == "win32":
            assert "can't be written" in walk.command("history", "--html", "report.html", code=1).err
            assert (walk.folder / "report.html").read_text("utf-8") == "old"
        else:
            walk.command("history", "--html", "report.html")
        assert walk.command("history-prune", "--older-than", "0s").out == "1\n"


@row
def built(walk: Walk) -> float:
    """the release built here, useragent.pyz of it: version, invoke"""
    walk.command(sys.executable, "-m", "user_agent_sdk._build", str(walk.dist), folder=ROOT)
    pyz = str(walk.dist / "useragent.pyz")
    walk.command(sys.executable, pyz, "version", PYTHONPATH="")
    ended = walk.command(sys.executable, pyz, "invoke", "agent.py", PYTHONPATH="")
    assert ended.out == '{"result": 0}\n', ended
    return ended.took_s


@row
def wheel(walk: Walk) -> float:
    """its wheel by pip, and the command useragent that pip makes of it"""
    try:
        import ensurepip
    except ImportError:
        raise unittest.SkipTest("this Python has no pip") from None
    bundled = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    [ours] = walk.dist.glob("*.whl")
    site = walk.folder / "site"
    pip = (sys.executable, str(bundled / "pip"), "install", "-q", "--no-index", "--target", str(site), str(ours))
    walk.command(*pip, PYTHONPATH="")
    command = str(site / "bin" / ("useragent.exe" if sys.platform == "win32" else "useragent"))
    ended = walk.command(command, "invoke", "agent.py", PYTHONPATH=str(site))
    assert ended.out == '{"result": 0}\n', ended
    return ended.took_s


@row
def pool(walk: Walk) -> float:
    """invoke of a function with a spawned pool of processes"""
    walk.write("pool.json", '{"pool": 10}')
    ended = walk.command("invoke", "agent.py", "-i", "pool.json")
    assert ended.out == '{"result": 285}\n', ended
    return ended.took_s


# -- commands that go on ---------------------------------------------------------------------------------


@row
def sandbox(walk: Walk) -> None:
    """sandbox, run and submit, three processes"""
    platform = walk.start("sandbox", "--port", "0", "--credentials", "credentials.json", "-a", AGENT)
    platform.until("submit a task")
    worker = walk.worker()
    assert walk.command("submit", "-i", "input.json").out == '{"result": 5}\n'
    assert walk.seconds_to_end(worker, 2) < PATIENCE_S


@row
def dev(walk: Walk) -> float:
    """dev: from a save to the function's new form"""
    worker = walk.start("dev", "agent.py", "--sandbox")
    worker.until("agent tells")
    began = time.monotonic()
    walk.write("agent.py", f"{AGENT_TEXT}# saved\n")
    worker.until("Reloaded")
    return time.monotonic() - began


@engine_row
def idle(walk: Walk) -> float:
    """run -w 4: Ctrl+C when nothing runs, at most 1 s and a bare start; a long poll, of Conductor, is waited for"""
    with walk.platform():
        return within(walk.idle_limit_s(), walk.seconds_to_end(walk.worker(), 2))


@engine_row
def idle_break(walk: Walk) -> float:
    """run -w 4: Ctrl+Break (SIGTERM where there is none) when nothing runs"""
    with walk.platform():
        return within(walk.idle_limit_s(), walk.seconds_to_end(walk.worker(), BREAK))


@row
def idle_sandbox(walk: Walk) -> float:
    """dev --sandbox -w 4: Ctrl+C when nothing runs"""
    worker = walk.start("dev", "agent.py", "--sandbox", "-w", "4")
    worker.until("agent tells")
    return within(1.0 + walk.bare_s, walk.seconds_to_end(worker, 2))


@engine_row
def busy(walk: Walk) -> float:
    """run -w 4: Ctrl+C with four tasks of 2 s, which end and are delivered"""
    with walk.platform() as box:
        worker = walk.worker()
        tasks = [box.put(n=n, seconds=2) for n in range(4)]
        for _ in tasks:
            worker.until("begun")
        took_s = walk.seconds_to_end(worker, 2)
        assert [box.wait(task, 0).output for task in tasks] == [{"result": n} for n in range(4)]
    return within(3.0 + walk.bare_s, took_s)


@engine_row
def pooled(walk: Walk) -> float:
    """run: a task whose function has a spawned pool of processes; then Ctrl+C"""
    with walk.platform() as box:
        worker = walk.worker()
        began = time.monotonic()
        assert box.wait(box.put(pool=10), PATIENCE_S).output == {"result": 285}
        took_s = time.monotonic() - began
        walk.seconds_to_end(worker, 2)
    return took_s


@engine_row
def twice(walk: Walk) -> float:
    """run -w 4: Ctrl+C twice with a task of 60 s"""
    with walk.platform() as box:
        worker = walk.worker()
        box.put(n=1, seconds=60)
        worker.until("begun")
        worker.give(2)
        worker.until("Stopping")
        threading.Event().wait(0.5)  # a signal that comes sooner is a repeat of the first
        took_s = walk.seconds_to_end(worker, 2, codes=(130,))
    return within(1.0 + walk.bare_s, took_s)


@engine_row
def killed(walk: Walk) -> float:
    """run killed with a result that could not be delivered; the next one starts and delivers it, and runs nothing"""
    with walk.platform(refuses=True) as box:
        worker = walk.worker()
        with box.down("report"):
            task = box.put(n=7)
            box.await_calls("report", 1)
            worker.process.kill()
            assert "begun 7" in worker.until_end()
        began = time.monotonic()
        following = walk.worker()
        ended = box.wait(task, PATIENCE_S)
        took_s = time.monotonic() - began
        assert (ended.output, len(ended.attempts)) == ({"result": 7}, 1), ended
        walk.seconds_to_end(following, 2)
        assert "begun" not in following.until_end()
    return took_s


@engine_row
def killed_busy(walk: Walk) -> float:
    """run killed while a function runs; the next one starts, says so to the platform, and runs the retry

    An engine gives the retry to a kept poll of the killed process, if one is left: a worker of one task has none.
    """
    with walk.platform() as box:
        worker = walk.worker("-w", "1")
        task = box.put(n=7, seconds=2)
        worker.until("begun")
        worker.process.kill()
        worker.until_end()
        began = time.monotonic()
        following = walk.worker()
        ended = box.wait(task, PATIENCE_S)
        took_s = time.monotonic() - began
        assert ended.output == {"result": 7}
        assert [one.status for one in ended.attempts] == ["FAILED", "COMPLETED"], ended
        walk.seconds_to_end(following, 2)
        assert following.until_end().count("begun") == 1
    return took_s


@engine_row
def two(walk: Walk) -> float:
    """two workers in a folder: 200 tasks, each once; then Ctrl+C for both"""
    with walk.platform() as box:
        workers = [walk.worker("-r"), walk.worker("-r")]
        began = time.monotonic()
        tasks = [box.put(n=n) for n in range(200)]
        ended = [box.wait(task, PATIENCE_S) for task in tasks]
        took_s = time.monotonic() - began
        assert [it.output for it in ended] == [{"result": n} for n in range(200)]
        assert all(len(it.attempts) == 1 for it in ended)
        for worker in workers:
            walk.seconds_to_end(worker, 2)
    assert len(json.loads(walk.command("history", "-n", "all", "--json").out)) == 200
    return took_s


@row
def scanned(walk: Walk) -> float:
    """run for 12 s with its journal and history open in another program: all are delivered and recorded"""
    walk.invoke("agent.py", "-r")
    with walk.platform() as box:
        worker = walk.worker("-r")
        with contextlib.ExitStack() as handles:
            for path in (*walk.folder.glob(".useragent/journal/*/*.log"), walk.folder / "execution_history.db"):
                handles.enter_context(open(path, "rb"))
            began = time.monotonic()
            for n in range(24):  # the journal is written anew each 10 s
                assert box.wait(box.put(n=n, seconds=0.5), PATIENCE_S).output == {"result": n}
            took_s = time.monotonic() - began
        walk.seconds_to_end(worker, 2)
    assert len(json.loads(walk.command("history", "-n", "all", "--json").out)) == 25
    return took_s


def main(*words: str) -> int:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    rows, system = ROWS, "Wine, in the place of Windows" if IS_WINE else sys.platform
    if words and words[0].startswith("http"):
        Walk.conductor, *words = words  # type: ignore[assignment]
        rows, system = ENGINE_ROWS, f"{system}, a real Conductor"
    print(f"Python {sys.version.split()[0]} on {system}\n", flush=True)
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number, call in enumerate(rows):
            name = (call.__doc__ or "").partition("\n")[0].strip()
            if words and call is not bare and not any(word in (call.__name__, *name.split()) for word in words):
                continue
            here = Path(folder).resolve() / f"row {number}"
            here.mkdir()
            verdict, took_s, said = done(call, Walk(here, Path(folder, "dist")))
            counts[verdict] += 1
            print(f"{took_s:6.2f} s  {verdict:7}  {name}{said and ': '}{said}", flush=True)
    print(f"\n{counts['ok']} ok, {counts['FAILED']} failed, {counts['skipped']} skipped")
    return int(counts["FAILED"] > 0)


def done(call: Row, walk: Walk) -> tuple[str, float, str]:
    began, said = time.monotonic(), ""
    try:
        with walk.cleanup:
            verdict, took_s = "ok", call(walk)
    except unittest.SkipTest as reason:
        verdict, took_s, said = "skipped", 0.0, str(reason)
    except Exception:
        verdict, took_s, said = "FAILED", None, f"\n{traceback.format_exc()}"
    return verdict, time.monotonic() - began if took_s is None else took_s, said


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
