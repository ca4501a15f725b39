# A node that cannot be started fails every test that needs it; nothing is skipped.
ExUnit.start(capture_log: true, timeout: 30_000)
