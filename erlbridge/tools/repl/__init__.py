"""`erlbridge repl`: what was said on the wires, looked at, compared, changed and said again.

`tape` holds the frames, `said` what each says, `filters` which of them are meant; `looking` and `acting` are the
commands and `session` reads lines of them. They give `blocks`, values that `printing` draws (rich) or writes plainly.
Only `prompt` (prompt_toolkit), `keys` (term) and `editor` know a terminal, only `live` a node.
"""
