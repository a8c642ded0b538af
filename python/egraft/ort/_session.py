"""Sessions: a model, compiled when it is loaded."""

import json
import os
import threading
import warnings

import numpy

from .. import _command, _egraft
from . import _types
from ._exceptions import InvalidArgument, NotImplemented, translated
from ._options import SessionOptions, refuse
from ._values import OrtValue, at_pointer, on_cpu

_CPU = "CPUExecutionProvider"


class NodeArg:
    """An input or an output as the model declares it."""

    def __init__(self, name, type, shape):
        self.name = name
        self.type = type
        self.shape = shape

    def __repr__(self):
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape!r})"


class ModelMetadata:
    """What a model says of itself."""

    def __init__(self, said):
        self.producer_name = said["producer"]
        self.graph_name = said["graph"]
        self.graph_description = said["graph_description"]
        self.domain = said["domain"]
        self.description = said["description"]
        # What onnxruntime says of a model without a version.
        self.version = said["version"] or 2**63 - 1
        self.custom_metadata_map = dict(said["notes"])


def _node_arg(port, computed):
    if port["labels"] is not None:
        return _told(port)
    kind = f"tensor({_types.word(port['element'])})"
    if port["sequence"]:
        kind = f"seq({kind})"
    if port["optional"]:
        kind = f"optional({kind})"
    shape = port["shape"]
    if shape is None:
        # What the model does not declare follows from its nodes.
        shape = list(computed.get(port["name"], ()))
    return NodeArg(port["name"], kind, shape)


def _told(port):
    """An output that is a map from labels, or a label that is a text."""
    if not port["map"]:
        return NodeArg(port["name"], "tensor(string)", port["shape"])
    label = "string" if isinstance(port["labels"][0], str) else "int64"
    return NodeArg(port["name"], f"seq(map({label},tensor(float)))", [])


def _maps(labels, scores):
    """The scores of each row, by label."""
    return [dict(zip(labels, row)) for row in scores.reshape(-1, len(labels)).tolist()]


def _texts(labels, places):
    return numpy.array(labels, dtype=object)[places]


class InferenceSession:
    """A model, ready to run. Several threads may run it at once."""

    def __init__(self, path_or_bytes, sess_options=None, providers=None, provider_options=None, **kwargs):
        unknown = kwargs.keys() - {"disabled_optimizers", "enable_fallback", "read_config_from_model"}
        if unknown:
            raise NotImplemented(f"InferenceSession({sorted(unknown)[0]}=...) has no twin in egraft.ort")
        options = sess_options if sess_options is not None else SessionOptions()
        refuse(options)
        self.set_providers(providers, provider_options)
        data = _command.onnx_bytes(path_or_bytes)
        path = "model.onnx" if data is not None else os.fspath(path_or_bytes)
        self._options = options
        self._model_path = None if data is not None else path
        with translated():
            self._said = json.loads(_egraft.declaration(path, data))
            dims, threads = list(self._sizes(options._dims).items()), options.intra_op_num_threads or None
            # Outputs may have other shapes than the model declares, and be maps and texts, as in onnxruntime.
            self._model = _egraft.compile(path, data, "cpu", dims, "reassoc", threads, [], [], True)
        self._inputs = [port.name for port in self._model.inputs]
        self._outputs = [port.name for port in self._model.outputs]
        self._told = {port["name"]: port for port in self._said["outputs"] if port["labels"] is not None}
        self._defaults = {port["name"] for port in self._said["defaults"]}

    def _sizes(self, dims):
        """Those of the sizes that some input has."""
        shapes = [port["shape"] or [] for port in self._said["inputs"]]
        return {name: size for name, size in dims.items() if any(name in shape for shape in shapes)}

    def run(self, output_names, input_feed, run_options=None):
        """The outputs of these names, all if there are none, as arrays."""
        names = self._outputs if not output_names else output_names
        for name in names:
            if name not in self._outputs:
                raise InvalidArgument(f"Invalid output name: {name}")
        results = self._run(input_feed)
        for name, port in self._told.items():
            results[name] = (_maps if port["map"] else _texts)(port["labels"], results[name])
        return [results[name] for name in names]

    def run_with_ort_values(self, output_names, input_dict_ort_values, run_options=None):
        return [OrtValue(array) for array in self.run(output_names, input_dict_ort_values)]

    def run_async(self, output_names, input_feed, callback, user_data, run_options=None):
        """Runs in another thread, which calls `callback(results, user_data, error)`."""

        def work():
            try:
                results, error = self.run(output_names, input_feed), ""
            except Exception as failed:
                results, error = [], str(failed)
            callback(results, user_data, error)

        threading.Thread(target=work).start()

    def _run(self, feed, out=None):
        missing = [name for name in self._inputs if name not in feed]
        if missing:
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({list(feed)}).")
        for name in feed:
            if name in self._defaults:
                raise NotImplemented(
                    f"input `{name}` is an initializer, whose value is compiled in; egraft.ort cannot replace it"
                )
        with translated():
            return self._model.run({name: _array(value) for name, value in feed.items()}, out=out)

    def io_binding(self):
        return IOBinding(self)

    def run_with_iobinding(self, iobinding, run_options=None):
        iobinding._run()

    def get_inputs(self):
        shapes = {port.name: port.shape for port in self._model.inputs}
        return [_node_arg(port, shapes) for port in self._said["inputs"]]

    def get_outputs(self):
        shapes = {port.name: port.shape for port in self._model.outputs}
        return [_node_arg(port, shapes) for port in self._said["outputs"]]

    def get_overridable_initializers(self):
        return [_node_arg(port, {}) for port in self._said["defaults"]]

    def get_modelmeta(self):
        return ModelMetadata(self._said)

    def get_session_options(self):
        return self._options

    def get_providers(self):
        return [_CPU]

    def get_provider_options(self):
        return {_CPU: {}}

    def set_providers(self, providers=None, provider_options=None):
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers or []]
        for name in names:
            if name != _CPU:
                warnings.warn(
                    f"Specified provider '{name}' is not in available provider names. Available providers: '{_CPU}'",
                    stacklevel=3,
                )

    def disable_fallback(self):
        """There is nothing to fall back to."""

    def enable_fallback(self):
        """There is nothing to fall back to."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"onnxruntime.InferenceSession.{name} has no twin in egraft.ort")


def _array(value):
    return value.numpy() if isinstance(value, OrtValue) else value


class IOBinding:
    """Inputs and outputs that stay where they are."""

    def __init__(self, session):
        self._session = session
        self._inputs = {}
        self._outputs = {}
        self._results = []

    def bind_cpu_input(self, name, arr_on_cpu):
        self._inputs[self._input(name)] = arr_on_cpu

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        on_cpu(device_type)
        self._inputs[self._input(name)] = at_pointer(buffer_ptr, tuple(shape), element_type)

    def bind_ortvalue_input(self, name, ortvalue):
        self._inputs[self._input(name)] = ortvalue.numpy()

    def bind_output(
        self, name, device_type="cpu", device_id=0, element_type=None, shape=None, buffer_ptr=None
    ):
        on_cpu(device_type)
        array = None
        if buffer_ptr is not None:
            if element_type is None or shape is None:
                raise InvalidArgument(f"output `{name}` is bound to a pointer without a type and a shape")
            array = at_pointer(buffer_ptr, tuple(shape), element_type)
        self._outputs[self._output(name)] = array

    def bind_ortvalue_output(self, name, ortvalue):
        self._outputs[self._output(name)] = ortvalue.numpy()

    def _input(self, name):
        if name not in self._session._inputs:
            raise InvalidArgument(f"Invalid input name: {name}")
        return name

    def _output(self, name):
        if name not in self._session._outputs:
            raise InvalidArgument(f"Invalid output name: {name}")
        return name

    def _run(self):
        results = self._session._run(self._inputs, out=self._outputs)
        self._results = [OrtValue(results[name]) for name in self._outputs]

    def get_outputs(self):
        """The outputs of the last run, in the order in which they were bound."""
        return self._results

    def copy_outputs_to_cpu(self):
        return [value.numpy() for value in self._results]

    def synchronize_inputs(self):
        """Inputs are there: the processor has one memory."""

    def synchronize_outputs(self):
        """Outputs are there when the run returns."""

    def clear_binding_inputs(self):
        self._inputs = {}

    def clear_binding_outputs(self):
        self._outputs = {}
        self._results = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"onnxruntime.IOBinding.{name} has no twin in egraft.ort")
