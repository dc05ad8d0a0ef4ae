"""One pass over one configuration: takes values from their layers, collects sources and problems.

Knows tables and keys in general; which tables there are is known by ``load`` and ``engines``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tnfd.config.forms import nearest
from tnfd.config.kinds import Mismatch
from tnfd.config.layers import Document, Given, dotted, from_environment, from_overrides
from tnfd.config.lines import KeyPath
from tnfd.config.places import Finding
from tnfd.config.schema import ENGINE, INBOX, SECTIONS, Key, not_yet
from tnfd.errors import Problem

Table = Mapping[str, Any]

_KEYS_THEMSELVES = frozenset({"api_key", "apikey", "key", "token", "secret", "openai_api_key"})


class Reading:
    """Collects what is found while one configuration is read.

    ``sources``: dotted key -> where its value came from. ``chosen``: dotted key -> the written value that
    counts, where there is one.
    """

    def __init__(
        self, document: Document, environ: Mapping[str, str], overrides: Mapping[str, object]
    ) -> None:
        self.document = document
        self.environ = environ
        self.layers = (from_overrides(overrides, environ), from_environment(environ))
        self.sources: dict[str, str] = {}
        self.chosen: dict[str, Given] = {}
        self._problems: list[Problem] = []

    # -- problems ----------------------------------------------------------------------------------------

    @property
    def problems(self) -> list[Problem]:
        """All problems, each once: those of the file by line, then the others."""
        file = str(self.document.file)
        # A mistake in the environment shows once, though every inbox meets it.
        distinct = dict.fromkeys(self._problems)
        return sorted(distinct, key=lambda problem: (problem.where != file, problem.line or 0))

    def report(self, given: Given, message: str, item: int | None = None) -> None:
        """Add a problem of a written value, or of one item of its list."""
        line = given.line
        if item is not None and item < len(given.item_lines):
            line = given.item_lines[item] or line
        self._problems.append(Problem(given.where, line, given.key, message))

    def report_at(self, path: KeyPath, message: str) -> None:
        """Add a problem of a place in the file."""
        place = str(self.document.file)
        self._problems.append(Problem(place, self.document.line_of(path), dotted(path), message))

    def report_variable(self, name: str, message: str) -> None:
        """Add a problem of an environment variable."""
        self._problems.append(Problem("environment", None, name, message))

    def report_findings(self, findings: Iterable[Finding]) -> None:
        """Add what checks of the whole configuration found, at the places the values came from."""
        for key, message in findings:
            source = self.sources.get(key, "")
            if key in self.chosen:
                self.report(self.chosen[key], message)
            elif source.startswith("$"):
                self.report_variable(source.removeprefix("$"), message)
            else:
                where = str(self.document.file) if self.document.file else "configuration"
                self._problems.append(Problem(where, None, key, message))

    def refuse_unknown(self, table: Iterable[str], path: KeyPath, known: Iterable[str]) -> None:
        """Report the keys of a table that are none, with what was probably meant."""
        names = tuple(known)
        for name in table:
            if name in names:
                continue
            elsewhere = [f"[{section}]" for section, keys in SECTIONS.items() if name in keys]
            elsewhere += ["[[inbox]]"] if name in INBOX else []
            elsewhere += ["[engines.NAME]"] if name in ENGINE else []
            if name.lower() in _KEYS_THEMSELVES:
                more = "; keys are not written here: use api_key_file, api_key_env or $OPENAI_API_KEY"
            else:
                close = nearest(name, names)
                belongs = f"; it belongs to {' or '.join(elsewhere)}" if elsewhere else ""
                # At the top there are tables alone: [engine] is a slip, not a key that lost its table.
                more = (belongs or close) if path else (close or belongs)
            self.report_at((*path, name), f"unknown key{more}")

    # -- values ------------------------------------------------------------------------------------------

    def above(self, schema_key: str) -> list[Given]:
        """What command line and environment say about a key, the stronger first."""
        return [layer[schema_key] for layer in self.layers if schema_key in layer]

    def in_file(self, table: Table, path: KeyPath, name: str) -> list[Given]:
        """What the table at ``path`` says about a key."""
        if name not in table:
            return []
        return [self.document.given((*path, name), table[name], self.environ)]

    def check(self, given: Given, schema_key: str, key: Key) -> tuple[bool, Any]:
        """Take one written value; False where it is not of its kind, which is then reported."""
        try:
            value = key.kind.take(given.value, given.origin)
            fits = True
        except Mismatch as mismatch:
            for item, message in mismatch.found:
                self.report(given, message, item)
            fits, value = False, mismatch.good or key.default
        missing = not_yet(schema_key, value)
        if missing:
            self.report(given, missing)
        return fits, value

    def pick(
        self,
        key: Key,
        place: tuple[str, str],
        givens: Sequence[Given],
        default: tuple[Any, str] | None = None,
    ) -> Any:
        """Take the strongest of the layers; the weaker ones are checked all the same.

        ``place`` is (schema table, dotted name of this table); ``default`` (value, source).
        """
        value, source = default or (key.default, "default")
        name = f"{place[1]}.{key.name}"
        self.chosen.pop(name, None)
        for given in givens:
            fits, taken = self.check(given, f"{place[0]}.{key.name}", key)
            if fits and name not in self.chosen:
                value, source = taken, given.source
                self.chosen[name] = given
        self.sources[name] = source
        return value
