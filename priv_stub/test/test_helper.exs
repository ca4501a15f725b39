# A node that cannot be started fails every test that needs it; nothing is skipped. A message that is awaited may take as
# long as a busy machine needs, and costs nothing where it comes at once.
ExUnit.start(capture_log: true, timeout: 30_000, assert_receive_timeout: 5_000)
