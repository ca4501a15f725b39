"""What the Elixir side starts as its port's program: `erlbridge serve`, with the same arguments.

Exit code 2 means that this Python cannot run the node at all; starting it again will not help.
"""

import sys

try:
    from erlbridge.tools.cli import main
except ImportError as error:
    sys.stderr.write(
        f"erlbridge cannot be imported by {sys.executable} ({error}): install it there with `pip install erlbridge`, "
        "or set ERLBRIDGE_PYTHON to a Python that has it.\n"
    )
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
