# SPDX-License-Identifier: Apache-2.0
"""The README's table of what a log line's ``action`` may be, held against the code in both directions: operators
write alerts and filters on these names."""

from __future__ import annotations

import ast
import re
import sys
import unittest
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.test_doors import PACKAGE, ROOT, parsed
from user_agent_sdk import logs

README = (ROOT / "README.md").read_text("utf-8")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Line(NamedTuple):
    """One log call. ``level``: "" where it is chosen at run time; ``fields``: those that the call itself names."""

    action: str
    level: str
    fields: frozenset[str]
    where: str


class Told(NamedTuple):
    levels: set[str]
    fields: set[str]


def collected() -> Iterator[Line]:
    for path in sorted(PACKAGE.rglob("*.py")):
        of_the_module = assigned(parsed(path))
        for function in scopes(parsed(path)):
            names = {**of_the_module, **assigned(function)}
            for call in own_nodes(function):
                if isinstance(call, ast.Call):
                    for action, fields in actions_of(call, names):
                        yield Line(action, level_of(call), frozenset(fields), f"{path.name}:{call.lineno}")


def scopes(tree: ast.Module) -> list[ast.AST]:
    return [tree, *(node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))]


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function, or in a module outside of its functions."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from own_nodes(child)


def assigned(scope: ast.AST) -> dict[str, ast.expr]:
    """What names stand for, by the assignments right there."""
    found: dict[str, ast.expr] = {}
    for node in own_nodes(scope):
        if isinstance(node, ast.Assign):
            name, value = node.targets[0], node.value
            are_many = isinstance(name, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(name.elts, value.elts) if are_many else [(name, value)]  # type: ignore[attr-defined]
            found.update({each.id: given for each, given in pairs if isinstance(each, ast.Name)})
    return found


def actions_of(call: ast.Call, names: dict[str, ast.expr]) -> Iterator[tuple[str, set[str]]]:
    """The actions that a call may log, each with its fields."""
    keywords = {each.arg: each.value for each in call.keywords}
    if ast.unparse(call.func).endswith(".add_argument"):
        return
    if "extra" in keywords:
        given = keywords["extra"]
        given = names.get(given.id, given) if isinstance(given, ast.Name) else given
        if isinstance(given, ast.Call) and ast.unparse(given.func).endswith(".said"):
            yield from ((action, {"agent_id", "task_id", "workflow_id"}) for action in texts(given.args[0]))
        if isinstance(given, ast.Dict):
            fields = {key.value: value for key, value in zip(given.keys, given.values) if isinstance(key, ast.Constant)}
            yield from ((action, {*fields} - {"action"}) for action in texts(fields.get("action")))
    elif "action" in keywords:
        yield from ((action, {*map(str, keywords)} - {"action", "None"}) for action in texts(keywords["action"]))
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "_say" and len(call.args) > 1:
        yield from ((action, {"outage_s", "tries"}) for action in texts(call.args[1]))


def texts(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))


def level_of(call: ast.Call) -> str:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name == "exception":
        return "ERROR"
    first = call.args[0] if call.args else None
    named = first.attr if isinstance(first, ast.Attribute) else ""
    return next((level for level in LEVELS if level in (name.upper(), named)), "")


def told() -> dict[str, Told]:
    table = README.partition("| action | level | when | fields |\n")[2].partition("\n\n")[0]
    found = {}
    for line in table.splitlines()[1:]:
        action, level, _, fields = (cell.strip() for cell in line.strip("|").split("|"))
        found[action.strip("`")] = Told({*level.split(", ")}, {*re.findall(r"`(\w+)`", fields)})
    return found


class ActionsTest(unittest.TestCase):
    told: dict[str, Told]
    lines: list[Line]

    @classmethod
    def setUpClass(cls) -> None:
        cls.told, cls.lines = told(), list(collected())

    def test_every_action_of_the_code_is_told_and_every_one_told_is_in_the_code(self) -> None:
        self.assertGreater(len(self.lines), 60)
        self.assertEqual(sorted({line.action for line in self.lines} ^ {*self.told}), [])

    def test_no_log_line_of_the_workers_is_without_an_action(self) -> None:
        """A call whose ``extra`` this test can't read would be left out of both."""
        calls = 0
        for path in PACKAGE.rglob("*.py"):
            text = path.read_text("utf-8")
            calls += len(re.findall(r"\b(?:log|logger|AGENT_LOG)\.(?:debug|info|warning|error|critical)\(", text))
            calls += len(re.findall(r"\blog(?:ger)?\.(?:exception|log)\(", text))
        self.assertLessEqual(calls, len(self.lines))

    def test_the_levels_are_those_of_the_code(self) -> None:
        found = defaultdict(set)
        for line in self.lines:
            found[line.action].add(line.level)
        for action, levels in found.items():
            self.assertLessEqual(levels - {""}, self.told[action].levels, action)
            if "" not in levels:
                self.assertEqual(levels, self.told[action].levels, action)

    def test_the_fields_are_those_of_the_code_and_reach_a_line(self) -> None:
        for line in self.lines:
            self.assertLessEqual(line.fields, self.told[line.action].fields, line.where)
        for action, row in self.told.items():
            self.assertLessEqual(row.fields, {*logs.FIELDS}, action)

    def test_every_field_of_a_json_line_is_told(self) -> None:
        paragraph = README.partition("**The worker's log.**")[2].partition("\n\n")[0]
        fields = {"ts", "level", "logger", "pid", "msg", "exc", *logs.FIELDS}
        self.assertEqual(fields - {*re.findall(r"`(\w+)`", paragraph)}, set())


def markdown() -> str:
    """The rows as the code has them, to begin a new one with; "when" is for a person to say."""
    by_action: dict[str, list[Line]] = defaultdict(list)
    for line in collected():
        by_action[line.action].append(line)
    rows = []
    for action, lines in sorted(by_action.items()):
        levels = ", ".join(level for level in LEVELS if level in {line.level for line in lines})
        fields = " ".join(f"`{name}`" for name in sorted(set().union(*(line.fields for line in lines))))
        rows.append(f"| `{action}` | {levels} |  | {fields} | {[line.where for line in lines]}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(markdown() + "\n")
