"""Operands of one element type, where the exporter wrote several floats: it folds weights in `f32` into 16-bit nodes, and
keeps norms whose weights are wider than what they normalize.

Such a node computes in the widest of the types; what it gives has the type that it had.
"""

import onnx
import onnx_ir as ir

_WIDTHS = {ir.DataType.BFLOAT16: 16, ir.DataType.FLOAT16: 16, ir.DataType.FLOAT: 32, ir.DataType.DOUBLE: 64}


def unite(model):
    """Casts operands of nodes where their types must be equal and are not."""
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        version = graph.opset_imports.get("", model.opset_imports.get(""))
        for node in list(graph):
            if node.domain in ("", "ai.onnx"):
                _unite(graph, node, version)


def _unite(graph, node, version):
    try:
        schema = onnx.defs.get_schema(node.op_type, version)
    except onnx.defs.SchemaError:
        return
    for word in {port.type_str for port in schema.inputs}:
        places = [at for at in range(len(node.inputs)) if _port(schema.inputs, at).type_str == word]
        is_one = all(_port(schema.inputs, at).is_homogeneous for at in places)
        types = {node.inputs[at].dtype for at in places if node.inputs[at] is not None}
        if not is_one or len(types) < 2 or not types <= _WIDTHS.keys():
            continue
        # Two types of 16 bits have none of their own that holds both.
        widest = max(types, key=_WIDTHS.get)
        widest = ir.DataType.FLOAT if _WIDTHS[widest] == 16 else widest
        for at in places:
            value = node.inputs[at]
            if value is not None and value.dtype != widest:
                cast = _cast(value, widest, f"{value.name}_for_{node.name}")
                graph.insert_before(node, cast)
                node.replace_input_with(at, cast.outputs[0])
        for at, value in enumerate(node.outputs):
            if _port(schema.outputs, at).type_str == word and value.dtype != widest:
                _narrow(graph, node, value, widest)


def _port(ports, at):
    """The declaration of an operand or a result: the last one stands for all that follow."""
    return ports[min(at, len(ports) - 1)]


def _cast(value, to, name):
    cast = ir.node("Cast", [value], {"to": ir.AttrInt64("to", int(to))})
    (result,) = cast.outputs
    result.name, result.type, result.shape = name, ir.TensorType(to), value.shape
    return cast


def _narrow(graph, node, value, computed):
    """What a node gives is computed in another type, and cast to its own."""
    declared, users, name = value.type, list(value.uses()), value.name
    cast = _cast(value, declared.dtype, name)
    (result,) = cast.outputs
    value.type, value.name = ir.TensorType(computed), f"{name}_of_{node.name}"
    graph.insert_after(node, cast)
    for user, at in users:
        user.replace_input_with(at, result)
    for at, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[at] = result
