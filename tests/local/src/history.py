"""ministack, with the history of an execution as Step Functions writes it.

ministack's own has no state within a Map, and no event says which one it follows: with two targets, nobody can tell whose
task failed. Here every event names the one before it, and a Map's iterations and their states have their events.
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
        iteration = {"name": ctx["State"]["Name"], "index": ctx["Map"]["Item"]["Index"]}
        iterating.set(execution)
        stepfunctions._add_event(execution, "MapIterationStarted", {"mapIterationStartedEventDetails": iteration})
        end = "Failed"
        try:
            output = run_sub_machine(states, start_at, input_data, execution, ctx)
            end = "Succeeded"
            return output
        finally:
            details = {f"mapIteration{end}EventDetails": iteration}
            stepfunctions._add_event(execution, f"MapIteration{end}", details)

    return run


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
for kind in ("Task", "Map", "Pass", "Choice"):
    function = f"_execute_{kind.lower()}"
    setattr(stepfunctions, function, with_state_events(getattr(stepfunctions, function), kind))

main()
