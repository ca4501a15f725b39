"""Where a term ends and where the next begins, in Python: the pure twin's `Scan`.

A `Scan` keeps its own stack and goes on where it stopped, so that all its steps together are linear in the bytes. Of
what a term holds it knows nothing but tags, sizes and counts.
"""

from __future__ import annotations

from struct import error as struct_error

from erlbridge.codec.sizes import CONTAINERS, FIXED, count_row, end_of_rare, open_container, read_u16, read_u32
from erlbridge.codec.tags import BINARY_EXT, LIST_EXT, NIL_EXT, SMALL_ATOM_UTF8_EXT, STRING_EXT
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from erlbridge.codec.sizes import Data


class Scan:
    """Finds the end of a term without version byte, step by step, or the beginnings of many that follow each other.

    `advance` goes as far as the data allow and says whether `pos` is the end. Later calls give the same data, with more
    at their end; if bytes were taken off the front, `pos` must be reduced by as many. Where a call stops is told by the
    values stepped over one by one, so that both twins stop at the same byte of data that are cut.
    """

    __slots__ = ("_in_list", "_max_depth", "_room", "_stack", "left", "pos")

    def __init__(self, pos: int, *, max_depth: int = MAX_DEPTH, depth: int = 0) -> None:
        self.pos = pos
        self.left = 1
        """Values still due in the innermost container; each takes a byte at least."""
        self._in_list = False
        self._stack: list[int] = []  # of every outer container twice the values left, and one more for a list
        self._max_depth = max_depth
        self._room = max_depth - depth  # of a part, `depth` says how deep it stands in its term

    def restart(self, pos: int) -> None:
        """Leaves the term at hand; the next, as deep as it, begins at `pos`."""
        self.pos = pos
        self.left = 0
        self._in_list = False
        self._stack.clear()

    def starts(self, data: Data, most: int, offsets: array[int]) -> bool:
        """Appends to `offsets`, of type "Q", where each of the `most` next terms begins; whether the data have them.

        The term at hand is stepped over before, and the last one found is at hand after; so far, only its tag is seen.
        """
        pos = self.pos
        left = self.left
        tag = 0
        looked_into = True  # whether the term at hand is more than a tag and a size
        try:
            while most > 0:
                if looked_into:
                    if not self.advance(data):
                        return False
                    pos = self.pos
                elif tag == BINARY_EXT:
                    pos += 5 + int(read_u32(data, pos + 1)[0])
                else:
                    pos += 2 + data[pos + 1]
                left = 0
                tag = data[pos]
                left = 1
                step = FIXED[tag]
                if step and most > 3 and data[pos + step : pos + step + 1] == data[pos : pos + 1]:
                    row = count_row(data, pos, most)
                    offsets.extend(range(pos, pos + step * row, step))
                    pos += step * (row - 1)
                    most -= row
                else:
                    offsets.append(pos)
                    most -= 1
                looked_into = tag not in (BINARY_EXT, SMALL_ATOM_UTF8_EXT)
                if looked_into:
                    self.pos = pos
                    self.left = 1
        except (IndexError, struct_error):
            self.pos = pos
            self.left = left
            return False
        self.pos = pos
        self.left = left
        return True

    def advance(self, data: Data) -> bool:
        pos = self.pos
        left = self.left
        in_list = self._in_list
        stack = self._stack
        u32 = read_u32
        fixed = FIXED
        size = len(data)
        fresh = True  # whether a row of numbers may begin here: a container's first value, or where this call begins
        try:
            while True:
                if fresh and left > 3:
                    step = fixed[data[pos]]
                    if step and pos + step < size and data[pos + step] == data[pos]:
                        count = count_row(data, pos, left)
                        pos += step * count
                        left -= count
                while left:
                    tag = data[pos]
                    if tag == 109:  # BINARY_EXT
                        pos += 5 + u32(data, pos + 1)[0]
                    elif tag == 119:  # SMALL_ATOM_UTF8_EXT
                        pos += 2 + data[pos + 1]
                    elif fixed[tag]:
                        pos += fixed[tag]
                    elif tag == 110:  # SMALL_BIG_EXT
                        pos += 3 + data[pos + 1]
                    elif tag in CONTAINERS:
                        if len(stack) >= self._room:
                            raise DecodeError(f"term nested deeper than {self._max_depth}", pos)
                        if tag == 116:  # MAP_EXT
                            count, start = u32(data, pos + 1)[0] * 2, pos + 5
                        else:
                            count, start = open_container(data, pos, tag)
                        stack.append((left - 1) * 2 + in_list)
                        left = count
                        in_list = tag == LIST_EXT
                        pos = start
                        fresh = True
                        break
                    else:
                        pos = end_of_rare(data, pos)
                    left -= 1
                else:
                    fresh = False
                    if in_list:
                        tag = data[pos]
                        if tag == LIST_EXT:  # a list as tail goes on in this one
                            (left,) = u32(data, pos + 1)
                            pos += 5
                            fresh = True
                            continue
                        if tag == NIL_EXT:
                            pos += 1
                        elif tag == STRING_EXT:
                            pos += 3 + read_u16(data, pos + 1)[0]
                        else:
                            left = 1
                        in_list = False
                        if left:
                            continue
                    if not stack:
                        return pos <= size
                    outer = stack.pop()
                    left = outer >> 1
                    in_list = outer & 1 == 1
        except (IndexError, struct_error):
            return False
        finally:
            self.pos = pos
            self.left = left
            self._in_list = in_list


def refuse(data: Data, pos: int, max_depth: int, room: int) -> None:
    """Raises what is wrong with the term at `pos`, where `room` more containers may nest."""
    Scan(pos, max_depth=max_depth, depth=max_depth - room).advance(data)
