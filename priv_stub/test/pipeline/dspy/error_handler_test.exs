defmodule Pipeline.DSPy.ErrorHandlerTest do
  use Pipeline.NodeCase

  alias Pipeline.DSPy.ErrorHandler

  doctest ErrorHandler
  doctest Pipeline.DSPy.PythonError

  @types Map.keys(PythonError.strategies())

  test "the types and their strategies are those of the node" do
    script = """
    from erlbridge.errors import BridgeError
    for name, owner in BridgeError.owners.items():
        print(name, owner.strategy)
    """

    {printed, 0} = System.cmd(python(), ["-c", script])

    theirs =
      for line <- String.split(printed, "\n", trim: true), into: %{} do
        [type, strategy] = String.split(line)
        {type, strategy}
      end

    ours =
      Map.new(PythonError.strategies(), fn {type, strategy} -> {"#{type}", "#{strategy}"} end)

    assert ours == theirs
  end

  test "each type is known as an atom, as a binary and by its class, with atoms or binaries as keys" do
    for type <- @types, name <- [type, "#{type}", Macro.camelize("#{type}")] do
      strategy = PythonError.strategies()[type]

      for map <- [%{error_type: name, message: "m"}, %{"error_type" => name, "message" => "m"}] do
        assert {^strategy, %PythonError{error_type: ^type, message: "m"}} =
                 ErrorHandler.handle_python_error(map)
      end

      assert {^strategy, %PythonError{error_type: ^type}} = ErrorHandler.handle_python_error(type)
    end
  end

  test "the first design's types get the strategies that it gave them" do
    told = fn type ->
      data = %{
        "error_type" => type,
        "message" => "m",
        "traceback" => "Traceback …",
        "context" => %{"step" => "one"}
      }

      ErrorHandler.handle_python_error(data)
    end

    assert {:fallback, %PythonError{error_type: :dspy_optimization_error} = error} =
             told.("DSPyOptimizationError")

    assert {error.traceback, error.context} == {"Traceback …", %{"step" => "one"}}
    assert {:fatal, %PythonError{error_type: :import_error}} = told.("ImportError")

    assert {:restart_process, %PythonError{error_type: :python_runtime_error} = error} =
             told.("ZeroDivisionError")

    assert error.context == %{:reported_type => "ZeroDivisionError", "step" => "one"}
  end

  test "what a node's map says of strategy, retries and time wins over the type's own, and nonsense does not" do
    map = %{
      "error_type" => "lm_error",
      "message" => "rate limit",
      "recovery_strategy" => "retry",
      "retryable" => true,
      "retry_after_ms" => 250
    }

    assert {:retry, %PythonError{retryable: true, retry_after_ms: 250}} =
             ErrorHandler.handle_python_error(map)

    nonsense = %{
      error_type: "lm_error",
      message: [:no, :text],
      traceback: 1,
      context: [],
      recovery_strategy: "pray",
      retryable: "maybe",
      retry_after_ms: -1
    }

    assert {:fatal, %PythonError{} = error} = ErrorHandler.handle_python_error(nonsense)
    assert error.message == "[:no, :text]"
    assert {error.traceback, error.context, error.retryable} == {nil, %{}, false}
    assert error.retry_after_ms == nil
  end

  test "a type that nobody knows makes no atom" do
    name = "UnheardOf#{System.unique_integer([:positive])}"
    data = %{"error_type" => name, "recovery_strategy" => name, name => name}
    assert {:restart_process, error} = ErrorHandler.handle_python_error(data)
    assert error.context.reported_type == name
    assert error.message == "the node gave no message"
    assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    assert {:restart_process, _error} = ErrorHandler.handle_python_error(%{})
  end

  test "exits, and the atoms of others, say what they come to" do
    call = {GenServer, :call, [:bridge, :anything, 5_000]}
    own = PythonError.new(:timeout_error, "not ready", context: %{reason: :handshake})

    for {reason, type, why} <- [
          {:pool_exhausted, :overloaded, :pool_exhausted},
          {{:error, :pool_exhausted}, :overloaded, :pool_exhausted},
          {:timeout, :timeout_error, :timeout},
          {{:timeout, call}, :timeout_error, :timeout},
          {{:noproc, call}, :process_crashed, :noproc},
          {{{:nodedown, :b@host}, call}, :process_crashed, :nodedown},
          {{:erpc, :noconnection}, :process_crashed, :nodedown},
          {{:EXIT, :killed}, :process_crashed, :killed},
          {{:EXIT, self(), :killed}, :process_crashed, :killed},
          {{:DOWN, make_ref(), :process, self(), :shutdown}, :shutting_down, :shutdown},
          {{:shutdown, :any}, :shutting_down, :shutdown},
          {:normal, :shutting_down, :normal},
          {:enospc, :storage_error, :enospc},
          {{:node_down, own}, :timeout_error, :handshake},
          {{:shutdown, {:node_down, own}}, :timeout_error, :handshake},
          {{:node_down, :epipe}, :process_crashed, :epipe},
          {%ArgumentError{message: "m"}, :internal_error, :exception},
          {%{type: :unnamed}, :python_runtime_error, nil},
          {1..2, :internal_error, nil},
          {"text", :internal_error, nil}
        ] do
      assert {strategy, %PythonError{error_type: ^type} = error} =
               ErrorHandler.handle_python_error(reason)

      assert {reason, error.context[:reason]} == {reason, why}
      assert strategy == error.recovery_strategy
    end
  end

  test "the exit of a process that an exception ended has its stacktrace" do
    {pid, ref} = spawn_monitor(fn -> raise "oops" end)
    assert_receive {:DOWN, ^ref, :process, ^pid, reason}
    error = ErrorHandler.classify_error(reason)
    assert {error.error_type, error.message} == {:internal_error, "oops"}
    assert error.traceback =~ "error_handler_test.exs"
  end
end
