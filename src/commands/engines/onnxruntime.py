"""Runs and times ONNX models with onnxruntime: the other side of `--against onnxruntime`.

The first line of output is {"engine"}, or {"error"} if that is missing. Then each line of input is a request.
{"model", "inputs", "outputs", "threads"} loads a model, runs it on inputs by name (.npz) and writes its outputs in
their order (.npz); it is answered by {"outputs"}, their number. {"runs"} is a number of runs of that model, and is
answered by {"ms"}, the time of each in milliseconds. Inputs and outputs are bound once, so that a run converts and
allocates nothing here. What fails is answered by {"error"}.
"""

import json
import sys
import time


def say(**what):
    print(json.dumps(what), flush=True)


def load(model, inputs, outputs, threads):
    """What runs the model: a session, and its inputs and outputs bound to memory."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = numpy.load(inputs)
    feed = {port.name: numpy.ascontiguousarray(given[port.name]).reshape(given[port.name].shape)
            for port in session.get_inputs()}
    results = session.run(None, feed)
    binding = session.io_binding()
    for name, value in feed.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    for port, value in zip(session.get_outputs(), results):
        binding.bind_ortvalue_output(port.name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    numpy.savez(outputs, *results)
    say(outputs=len(results))
    return session, binding


def main():
    loaded = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "runs" not in request:
                loaded = load(**request)
                continue
            session, binding = loaded
            times = []
            for _ in range(request["runs"]):
                start = time.perf_counter()
                session.run_with_iobinding(binding)
                times.append((time.perf_counter() - start) * 1e3)
            say(ms=times)
        except Exception as error:  # Whatever it is, the other side tells.
            say(error=f"{type(error).__name__}: {error}")


try:
    import numpy
    import onnxruntime
except Exception as error:
    say(error=f"{type(error).__name__}: {error}")
else:
    say(engine="onnxruntime " + onnxruntime.__version__)
    main()
