"""Modules as calls: what a module computes becomes a function of the exported model, and each call of the module one node.

Functions are local to the model, of the domain `egraft`, and made of the nodes that the exporter wrote, so whoever reads the
model can open them. Parameters and free sizes are operands of a call; constants stand in the function. Calls that compute the
same on operands of the same types share a function.
"""

import ast
import os

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes.common import InlinePass

DOMAIN = "egraft"

# What the exporter notes about a node: the modules around it and its name in what was traced; the lines of source.
SCOPES, TRACE = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"


def outline(program, kinds):
    """Makes calls of modules in a program that `torch.onnx.export` did not optimize, and optimizes it.

    `kinds` says what the functions of the modules are called, by the paths of these.
    """
    model, functions = program.model, {}
    holders = {inner: node for node in model.graph for inner in _with_inner(node)}
    owners = _owners(program, kinds)
    _leave_sizes(model.graph, owners, holders)
    calls = {}
    for node, call in owners.items():
        if call is not None:
            calls.setdefault(call, []).append(node)
    for (_, path), nodes in calls.items():
        _outline(model, functions, holders, nodes, path, kinds[path])
    if calls:
        model.opset_imports[DOMAIN] = 1
        model.graph.sort()
    InlinePass(lambda function: function.domain != DOMAIN)(model)
    onnxscript.optimizer.optimize(model, inline=False)


def _with_inner(node):
    """A node, and those in its bodies."""
    yield node
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from ir.traversal.RecursiveGraphIterator(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for body in attribute.as_graphs():
                yield from ir.traversal.RecursiveGraphIterator(body)


def _is_constant(value):
    """The exporter shares constants between all that need them."""
    return value.producer() is not None and value.producer().op_type == "Constant"


def _owners(program, kinds):
    """The call that each node but constants is a part of: of the outermost module, its key and path; or none."""
    traced = {node.name: node.meta.get("nn_module_stack") or {} for node in program.exported_program.graph.nodes}
    owners = {}
    for node in program.model.graph:
        if node.op_type != "Constant":
            scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "['']"))
            stack = traced.get(scopes[-1], {}).items()
            # A module that is called again has another key then.
            owners[node] = next(((key, path) for key, (path, _) in stack if path in kinds), None)
    return owners


def _leave_sizes(graph, owners, holders):
    """Sizes of inputs, and what is made of them alone, are left to the graph where others need them, too."""
    sizes = set()
    for node in owners:
        given = [value for value in node.inputs if value is not None and not _is_constant(value)]
        is_of_input = node.op_type == "Shape" and node.inputs[0].is_graph_input()
        if is_of_input or (given and sizes.issuperset(given)):
            sizes.update(node.outputs)
    for node in reversed(list(owners)):
        users = (holders[user] for value in node.outputs for user, _ in value.uses())
        if sizes.issuperset(node.outputs) and any(owners[user] != owners[node] for user in users):
            owners[node] = None


def _outline(model, functions, holders, nodes, path, kind):
    """Moves the nodes of a call into a function, and puts the call in their place."""
    graph, inside = model.graph, set(nodes)
    read = {value: None for node in nodes for inner in _with_inner(node) for value in inner.inputs if value is not None}
    outer = [value for value in read if value.graph is graph and value.producer() not in inside]
    constants = [value for value in outer if _is_constant(value)]
    # What is computed comes before parameters.
    operands = sorted((value for value in outer if not _is_constant(value)), key=ir.Value.is_initializer)
    results = [value for node in nodes for value in node.outputs if _is_needed(value, inside, holders)]
    if not results:
        return  # What nobody needs is left to the optimizer, which takes it out.

    call = ir.Node(DOMAIN, kind, operands, num_outputs=len(results), name=path or kind)
    for value, result in zip(results, call.outputs):
        result.name, result.type, result.shape = value.name, value.type, value.shape
        result.metadata_props.update(value.metadata_props)
        for user, at in list(value.uses()):
            if holders[user] not in inside:
                user.replace_input_with(at, result)
        for at, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[at] = result
    graph.insert_before(nodes[0], call)
    graph.remove(nodes)
    holders[call] = call

    inputs = [ir.Value(name=_operand(value, at, path), type=value.type, shape=value.shape) for at, value in enumerate(operands)]
    copies = [_copy(value) for value in constants]
    own = dict(zip(operands, inputs)) | dict(zip(constants, (copy.outputs[0] for copy in copies)))
    for inner in (inner for node in nodes for inner in _with_inner(node)):
        for at, value in enumerate(inner.inputs):
            if value in own:
                inner.replace_input_with(at, own[value])
    call.metadata_props.update({SCOPES: repr([path, kind]), TRACE: _take_trace(nodes)})
    _rename([*copies, *nodes])
    opsets = {domain: version for domain, version in model.opset_imports.items() if domain != DOMAIN}
    body = ir.Graph(inputs, results, nodes=[*copies, *nodes], opset_imports=opsets)
    call.op_type = _function(model, functions, kind, body)


def _is_needed(value, inside, holders):
    """Is what a call computes needed elsewhere?"""
    return value.is_graph_output() or any(holders[user] not in inside for user, _ in value.uses())


def _operand(value, at, path):
    """What an operand is called in the function."""
    name = value.name.removeprefix(f"{path}." if path else "")
    is_own = value.is_initializer() and (not path or name != value.name)
    return f"self.{name}" if is_own else f"x{at}"


def _copy(value):
    """The node of a constant, again."""
    copy = ir.Node("", "Constant", [], value.producer().attributes)
    (result,) = copy.outputs
    result.type, result.shape, result.const_value = value.type, value.shape, value.const_value
    return copy


def _take_trace(nodes):
    """The lines of source that lead to the call; each node is left with those that lead on from there.

    What else is noted about nodes says which call it is, and a function may be that of several.
    """
    lines = [node.metadata_props.get(TRACE, "").splitlines(keepends=True) for node in nodes]
    shared = os.path.commonprefix(lines)
    for node, own in zip(nodes, lines):
        for inner in _with_inner(node):
            inner.metadata_props.clear()
        node.metadata_props[TRACE] = "".join(own[len(shared) :])
    return "".join(shared)


def _rename(nodes):
    """Names that say nothing of where a call is, in place of what the exporter said of values."""
    for number, node in enumerate(inner for node in nodes for inner in _with_inner(node)):
        node.name = f"{node.op_type}_{number}"
        for at, value in enumerate(node.outputs):
            value.name = f"v{number}_{at}" if at else f"v{number}"
            value.metadata_props.clear()


def _function(model, functions, kind, body):
    """The name of the function with this body, which is added if it is a new one."""
    function = ir.Function(DOMAIN, kind, graph=body, attributes=[])
    types = [(str(value.type), str(value.shape)) for value in body.inputs]
    key = (kind, *types, ir.to_proto(function).SerializeToString(deterministic=True))
    if key not in functions:
        number = 1 + sum(known == kind for known, *_ in functions)
        function.name = kind if number == 1 else f"{kind}_{number}"
        functions[key] = function.name
        model.functions[function.identifier()] = function
    return functions[key]
