# SPDX-License-Identifier: Apache-2.0
"""A child that the process forks keeps nothing of the worker."""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import unittest
import warnings
from collections.abc import Callable
from functools import partial

from user_agent_sdk import forking
from user_agent_sdk.worker import signals
from user_agent_sdk.worker.running.context import Call, TaskLog


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on, where other threads run
        return os.fork()


@unittest.skipUnless(hasattr(os, "fork"), "no fork here")
class ForkTest(unittest.TestCase):
    def in_child(self, look: Callable[[], bool]) -> bool:
        """Whether ``look`` was true in a forked child."""
        child = fork()
        if not child:
            try:
                os._exit(0 if look() else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_a_signal_ends_a_child_as_it_ends_any_program(self) -> None:
        """Children of a Pool had the worker's handlers, which only note a signal: Pool.terminate() then waited for
        them for ever, and the task's lease was kept for ever."""
        before = signal.getsignal(signal.SIGTERM)
        with signals.into(queue.SimpleQueue()):
            self.assertTrue(self.in_child(lambda: signal.getsignal(signal.SIGTERM) == before))
            self.assertTrue(self.in_child(lambda: signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())))
            child = fork()
            if not child:
                signal.pause()
                os._exit(0)
            os.kill(child, signal.SIGTERM)  # at once, maybe before the child has run anything
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), -signal.SIGTERM)
            self.assertNotEqual(signal.getsignal(signal.SIGTERM), before)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)
        self.assertNotIn(signal.SIGTERM, signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def test_a_signal_ends_a_child_of_a_process_that_has_no_descriptor_left(self) -> None:
        """A Pool took the last descriptors. In its children the worker's files could not be closed, and after that
        nothing else was done: they kept SIGTERM blocked, and Pool.terminate() waited for them for ever."""
        import resource  # there is none on Windows

        before, free = resource.getrlimit(resource.RLIMIT_NOFILE), os.dup(0)
        os.close(free)
        with signals.into(queue.SimpleQueue()):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
            try:
                blocked = partial(signal.pthread_sigmask, signal.SIG_BLOCK, ())
                self.assertTrue(self.in_child(lambda: signal.SIGTERM not in blocked()))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)

    def test_a_socket_of_ours_is_closed_in_a_child_and_stays_open_here(self) -> None:
        """An orphan kept the status port, and the next worker could not start."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        forking.ours(listener)

        def is_gone() -> bool:
            try:
                listener.getsockname()
            except OSError:
                return True
            return False

        self.assertTrue(self.in_child(is_gone))
        with socket.create_connection(listener.getsockname()):
            listener.accept()[0].close()

    def test_a_child_logs_though_another_thread_logged_in_the_fork(self) -> None:
        """It waited for ever for a lock that a thread held which it does not have; so did current_task().cancelled."""
        lines, call = TaskLog(), Call()
        held, go = threading.Event(), threading.Event()

        def hold() -> None:
            with lines._lock, call._lock:
                held.set()
                go.wait()

        def logs() -> bool:
            signal.alarm(10)
            lines.add("of the child", 0)
            TaskLog().add("of a task of the child's", 0)
            return not call.cancelled.is_set() and not Call().cancelled.is_set() and self.in_child(lambda: True)

        thread = threading.Thread(target=hold)
        thread.start()
        self.assertTrue(held.wait(10))
        try:
            self.assertTrue(self.in_child(logs))
        finally:
            go.set()
            thread.join()
        lines.add("of the parent", 0)
        self.assertEqual([line.log for line in lines.close()], ["of the parent"])

    def test_what_a_child_printed_is_there_when_it_ends(self) -> None:
        """Where the output was a file or a pipe, what it had printed last was lost."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)

        def prints() -> bool:
            sys.stdout, sys.stderr = os.fdopen(writer, "w"), None
            print("of the child")
            forking.end(None)

        self.assertTrue(self.in_child(prints))
        os.close(writer)
        self.assertEqual(os.read(reader, 100), f"of the child{os.linesep}".encode())

    def test_a_child_ends_though_another_thread_printed_in_the_fork(self) -> None:
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        printing = os.fdopen(writer, "w")
        thread = threading.Thread(target=lambda: print("x" * 999_999, file=printing, flush=True))
        thread.start()
        left = 1_000_000 - len(os.read(reader, 1))  # the thread has the stream's lock from here on, until all is read

        def ends() -> bool:
            signal.alarm(10)
            sys.stdout, forking.FLUSH_S = printing, 0.1
            forking.end(None)

        self.assertTrue(self.in_child(ends))
        while left > 0:
            left -= len(os.read(reader, 65536))
        thread.join()
        printing.close()

    def test_what_the_function_itself_opened_stays_open_in_its_child(self) -> None:
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, writer)
        self.assertTrue(self.in_child(lambda: os.write(writer, b"x") == 1))
        self.assertEqual(os.read(reader, 1), b"x")


if __name__ == "__main__":
    unittest.main()
