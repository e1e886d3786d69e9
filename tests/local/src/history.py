"""ministack, with the history of an execution as Step Functions writes it, and with what it lacks of what Step Functions
documents of a Distributed Map and of an execution that a task runs.

ministack's own history has no state within a Map, and no event says which one it follows: with two targets, nobody can tell
whose task failed. Here every event names the one before it, and a Map's iterations and their states have their events.

In a JSONata state machine, the arguments of a Distributed Map's ItemReader are JSONata, and so is its Output; ministack reads
them as they stand, and gives the children's results in their place. And a task that runs an execution to its end fails with
States.TaskFailed, whose cause describes that execution; ministack gives the error of the execution itself.
"""

import contextvars
import json
import threading

from ministack.app import main
from ministack.services import stepfunctions

# Every iteration runs in a copy of its Map's context: what it follows first is its Map's start.
previous = contextvars.ContextVar("previous", default=0)
iterating = contextvars.ContextVar("iterating", default=None)
writing = threading.Lock()


def chained(add_event):
    def add(execution, event_type, details=None):
        with writing:
            event = add_event(execution, event_type, details)
        # Where an execution begins, ministack writes the first event itself.
        event["previousEventId"] = previous.get() or event["id"] - 1
        previous.set(event["id"])
        return event

    return add


def with_iteration_events(run_sub_machine):
    def run(states, start_at, input_data, execution, ctx):
        iterating.set(execution)
        if "mapRunArn" in execution:
            return run_child(states, start_at, input_data, execution, ctx)
        iteration = {"name": ctx["State"]["Name"], "index": ctx["Map"]["Item"]["Index"]}
        stepfunctions._add_event(execution, "MapIterationStarted", {"mapIterationStartedEventDetails": iteration})
        end = "Failed"
        try:
            output = run_sub_machine(states, start_at, input_data, execution, ctx)
            end = "Succeeded"
            return output
        finally:
            details = {f"mapIteration{end}EventDetails": iteration}
            stepfunctions._add_event(execution, f"MapIteration{end}", details)

    def run_child(states, start_at, input_data, execution, ctx):
        """A child of a Distributed Map is an execution, with a history of its own."""
        previous.set(0)
        started = {"executionStartedEventDetails": {"input": json.dumps(input_data)}}
        stepfunctions._add_event(execution, "ExecutionStarted", started)
        try:
            output = run_sub_machine(states, start_at, input_data, execution, ctx)
        except stepfunctions._ExecutionError as failure:
            failed = {"executionFailedEventDetails": {"error": failure.error, "cause": failure.cause}}
            stepfunctions._add_event(execution, "ExecutionFailed", failed)
            raise
        succeeded = {"executionSucceededEventDetails": {"output": json.dumps(output)}}
        stepfunctions._add_event(execution, "ExecutionSucceeded", succeeded)
        return output

    return run


def with_own_history(run_execution):
    """Also where a task of another execution runs it."""

    def run(execution_arn):
        before, around = previous.get(), iterating.get()
        previous.set(0)
        iterating.set(None)
        try:
            run_execution(execution_arn)
        finally:
            previous.set(before)
            iterating.set(around)

    return run


def with_jsonata(run_distributed_map):
    def run(state_def, raw_input, effective, iterator, execution, ctx):
        reader = state_def["ItemReader"]
        arguments = stepfunctions._apply_jsonata_template(reader["Arguments"], raw_input, ctx)
        read = {**state_def, "ItemReader": {**reader, "Arguments": arguments}}
        _, following = run_distributed_map(read, raw_input, effective, iterator, execution, ctx)
        return stepfunctions._apply_jsonata_output(state_def, raw_input, ctx), following

    return run


def described(payload):
    """How a task fails whose execution did: DescribeExecution's answer, as Step Functions spells it."""
    members = {name[0].upper() + name[1:]: value for name, value in payload.items()}
    return "States.TaskFailed", json.dumps(members)


def with_map_events(run_map_items):
    def run(state_def, raw_input, execution, ctx):
        stepfunctions._add_event(execution, "MapStateStarted")
        end = "Failed"
        try:
            result = run_map_items(state_def, raw_input, execution, ctx)
            end = "Succeeded"
            return result
        finally:
            stepfunctions._add_event(execution, f"MapState{end}")

    return run


def with_state_events(execute, state_type):
    """Outside a Map, ministack writes these itself."""

    def run(state_def, raw_input, *rest):
        execution = iterating.get()
        if execution is None:
            return execute(state_def, raw_input, *rest)
        name = rest[-1]["State"]["Name"]
        entered = {"stateEnteredEventDetails": {"name": name, "input": json.dumps(raw_input)}}
        stepfunctions._add_event(execution, f"{state_type}StateEntered", entered)
        output, following = execute(state_def, raw_input, *rest)
        exited = {"stateExitedEventDetails": {"name": name, "output": json.dumps(output)}}
        stepfunctions._add_event(execution, f"{state_type}StateExited", exited)
        return output, following

    return run


stepfunctions._add_event = chained(stepfunctions._add_event)
stepfunctions._run_sub_machine = with_iteration_events(stepfunctions._run_sub_machine)
stepfunctions._run_map_items = with_map_events(stepfunctions._run_map_items)
stepfunctions._run_execution = with_own_history(stepfunctions._run_execution)
stepfunctions._run_distributed_map = with_jsonata(stepfunctions._run_distributed_map)
stepfunctions._nested_execution_failure = described
for kind in ("Task", "Map", "Pass", "Choice", "Wait"):
    function = f"_execute_{kind.lower()}"
    setattr(stepfunctions, function, with_state_events(getattr(stepfunctions, function), kind))

main()
