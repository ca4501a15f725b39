"""Terms as people write them, in Elixir's and in Erlang's notation, and back.

`to_elixir` is what `inspect/2` shows with `limit: :infinity, printable_limit: :infinity`, `to_erlang` what `~0tp` does.
Both take what `binary_to_term` gives and keep to its order of map keys. `from_elixir` and `from_erlang` read what these
write, and what people type: literals only, so that nothing is ever evaluated.
"""

from __future__ import annotations

from erlbridge.codec.notation.elixir import to_elixir
from erlbridge.codec.notation.elixir_reader import from_elixir
from erlbridge.codec.notation.erlang import to_erlang
from erlbridge.codec.notation.erlang_reader import from_erlang
from erlbridge.errors import NotationError

__all__ = ["NotationError", "from_elixir", "from_erlang", "to_elixir", "to_erlang"]
