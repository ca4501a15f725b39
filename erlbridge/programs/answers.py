"""Models' answers on disk: what was paid for once is not paid for again, also after a crash, by any worker.

Knows keys and plain values; knows no model and no DSPy. Values are written as terms, so that nothing is unpickled or
evaluated on the way back, under a checksum that covers the key: a damaged, cut or swapped entry is dropped, not served.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Final

from erlbridge.codec import DecodeError, EncodeError, binary_to_term, term_to_binary
from erlbridge.limits import MAX_ANSWER_BYTES, MAX_ANSWERS, MAX_ANSWERS_BYTES
from erlbridge.store.database import Database

FILE: Final = "answers-1.sqlite3"
"""The file's name in the node's data directory; the number is that of its format."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    answer BLOB NOT NULL,
    checksum BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS totals (one INTEGER PRIMARY KEY CHECK (one = 1), answers INTEGER, bytes INTEGER);
INSERT OR IGNORE INTO totals VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS came AFTER INSERT ON answers BEGIN
    UPDATE totals SET answers = answers + 1, bytes = bytes + length(NEW.answer);
END;
CREATE TRIGGER IF NOT EXISTS went AFTER DELETE ON answers BEGIN
    UPDATE totals SET answers = answers - 1, bytes = bytes - length(OLD.answer);
END;
"""
_DROP_OLDEST: Final = "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY id LIMIT ?)"
_COUNT_ANEW: Final = "INSERT OR REPLACE INTO totals SELECT 1, count(*), coalesce(sum(length(answer)), 0) FROM answers"
_DROPPED_AT_ONCE: Final = 32


class Answers:
    """Answers by key, bounded in count and bytes; the oldest go first. Safe from any thread and process.

    Args:
        directory: The node's data directory; None keeps answers in memory.
        max_answers, max_bytes: How much is kept.

    >>> answers = Answers(None)
    >>> answers.put(b"key", {"text": "blue", "tokens": 3})
    >>> answers.get(b"key"), answers.get(b"other")
    ({'text': 'blue', 'tokens': 3}, None)
    """

    def __init__(
        self, directory: Path | None, *, max_answers: int = MAX_ANSWERS, max_bytes: int = MAX_ANSWERS_BYTES
    ) -> None:
        self._database = Database(None if directory is None else directory / FILE, _SCHEMA)
        self._max_answers = max_answers
        self._max_bytes = max_bytes

    def get(self, key: bytes) -> object | None:
        """The value that was put under a key; None when there is none that is whole."""

        def find(connection: sqlite3.Connection) -> tuple[object, object] | None:
            row: tuple[object, object] | None = connection.execute(
                "SELECT answer, checksum FROM answers WHERE key = ?", (key,)
            ).fetchone()
            return row

        row = self._database.read(find, None)
        if row is None:
            return None
        answer, checksum = row
        if isinstance(answer, bytes) and checksum == _checksum(key, answer):
            try:
                return binary_to_term(answer, text=True)
            except DecodeError:
                pass
        self._database.write(lambda connection: connection.execute("DELETE FROM answers WHERE key = ?", (key,)), None)
        return None

    def put(self, key: bytes, value: object) -> None:
        """Keeps a value that comes back from its term equal, as text, numbers, None, lists, tuples and dicts do. What
        does not, or is too large, is not kept."""
        try:
            answer = term_to_binary(value)
            if len(answer) > min(MAX_ANSWER_BYTES, self._max_bytes) or binary_to_term(answer, text=True) != value:
                return  # bytes would come back as text
        except (EncodeError, DecodeError):
            return

        def keep(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO answers (key, answer, checksum) VALUES (?, ?, ?)",
                (key, answer, _checksum(key, answer)),
            )
            while self._is_over(connection):
                if connection.execute(_DROP_OLDEST, (_DROPPED_AT_ONCE,)).rowcount < 1:
                    connection.execute(_COUNT_ANEW)  # somebody else wrote the totals
                    return

        self._database.write(keep, None)

    def _is_over(self, connection: sqlite3.Connection) -> bool:
        row = connection.execute("SELECT answers, bytes FROM totals").fetchone()
        if row is None or not all(isinstance(total, int) and total >= 0 for total in row):
            connection.execute(_COUNT_ANEW)
            return False
        return bool(row[0] > self._max_answers or row[1] > self._max_bytes)

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()


def _checksum(key: bytes, answer: bytes) -> bytes:
    return hashlib.sha256(key + answer).digest()
