"""erlbridge: optimize DSPy programs from Elixir over a Port, in native Erlang terms.

Importing this package loads neither DSPy nor psutil.
"""

__version__ = "0.1.0"
