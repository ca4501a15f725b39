defmodule Pipeline.DSPy.DeadlineTest do
  use ExUnit.Case, async: true

  doctest Pipeline.DSPy.Deadline
end
