import Config

# What differs from machine to machine: read when the release starts, not when it is built. The Python itself is found
# by ERLBRIDGE_PYTHON, or set here as `config :pipeline, :python`.
config :ticket_desk,
  data_dir:
    System.get_env("TICKET_DESK_DATA") ||
      Path.join(System.tmp_dir!(), "ticket_desk-#{System.pid()}"),
  lm: System.get_env("TICKET_DESK_LM") || :offline
