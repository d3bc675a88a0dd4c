"""Print the figures of the package's structure: files, functions, comments, names. Needs no dependency."""

from __future__ import annotations

import argparse
import ast
import re
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    """Print one line per figure, of the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="src/tamis", type=Path)
    files = sorted(parser.parse_args().folder.rglob("*.py"))
    trees = {file: ast.parse(file.read_text()) for file in files}
    lines = {file: len(file.read_text().splitlines()) for file in files}
    bodies = [_length(function) for tree in trees.values() for function in _functions(tree)]
    total = sum(lines.values())
    for name, value in {
        "files": len(files),
        "lines": total,
        "files under 50 lines": sum(count < 50 for count in lines.values()),
        "files over 300 lines": sum(count > 300 for count in lines.values()),
        "functions": len(bodies),
        "body lines, median": statistics.median(bodies),
        "body lines, 90th percentile": statistics.quantiles(bodies, n=10)[-1],
        "functions over 50 lines": sum(length > 50 for length in bodies),
        "comment lines, %": f"{100 * sum(map(_comment_lines, files)) / total:.1f}",
        "private functions called once": _called_once(trees),
        "class names used twice": ", ".join(_repeated_classes(trees)) or "none",
    }.items():
        print(f"{name:32} {value}")  # noqa: T201 - a script prints its result


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS))


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _comment_lines(file: Path) -> int:
    with file.open("rb") as source:
        return sum(
            token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
            for token in tokenize.tokenize(source.readline)
        )


def _called_once(trees: dict[Path, ast.Module]) -> int:
    """Count private functions whose name appears once beside their definition, in their own file."""
    count = 0
    for file, tree in trees.items():
        words = Counter(re.findall(r"\w+", file.read_text()))
        names = (function.name for function in _functions(tree))
        count += sum(name.startswith("_") and not name.endswith("__") and words[name] == 2 for name in names)
    return count


def _repeated_classes(trees: dict[Path, ast.Module]) -> list[str]:
    names = Counter(
        node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in names.items() if count > 1)


if __name__ == "__main__":
    main()
