"""Times an ONNX model with onnxruntime: the other side of `egraft bench --against onnxruntime`.

Arguments: the model, its inputs by name (.npz), where its outputs go in their order (.npz), the number of threads.
The first line of output is {"engine", "outputs"} once the model has run, or {"error"}. Then each line of input is a
number of runs, and is answered by {"ms"}, the time of each in milliseconds. Inputs and outputs are bound once, so
that a run converts and allocates nothing here.
"""

import json
import sys
import time


def say(**what):
    print(json.dumps(what), flush=True)


def load(model, inputs, threads):
    """The session, and its inputs and outputs bound to memory."""
    import numpy
    import onnxruntime

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
    return session, binding, results, "onnxruntime " + onnxruntime.__version__


def main():
    model, inputs, outputs, threads = sys.argv[1:]
    try:
        session, binding, results, engine = load(model, inputs, int(threads))
        import numpy

        numpy.savez(outputs, *results)
    except Exception as error:  # Whatever it is, the other side tells.
        say(error=f"{type(error).__name__}: {error}")
        return
    say(engine=engine, outputs=len(results))
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            session.run_with_iobinding(binding)
            times.append((time.perf_counter() - start) * 1e3)
        say(ms=times)


main()
