"""A module, compiled as a whole: it takes and gives what the module does."""

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.utils import _pytree as pytree

import egraft

from . import _export


class Module:
    """What `egraft.torch.compile` returns."""

    def __init__(self, program, options):
        exported = program.exported_program
        signature = exported.graph_signature
        for name in signature.buffers_to_mutate.values():
            raise NotImplementedError(
                f"the module changes its buffer `{name}`; torch.compile(module, backend='egraft') keeps it"
            )
        if signature.user_inputs_to_mutate:
            raise NotImplementedError(
                "the module changes its inputs; torch.compile(module, backend='egraft') does so, too"
            )
        self._inputs = [spec.arg for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT]
        self._outputs = [spec.arg for spec in signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
        self._takes, self._gives = exported.call_spec.in_spec, exported.call_spec.out_spec
        self.model = egraft.compile(_export.data(program), **options)

    def __call__(self, *args, **kwargs):
        given = []
        for arg, item in zip(self._inputs, self._flat(args, kwargs), strict=True):
            if not isinstance(arg, ConstantArgument):
                given.append(item)
            elif item != arg.value:
                raise ValueError(f"argument `{arg.name}` is {item!r}, but the module was compiled for {arg.value!r}")
        results = iter(_export.run(self.model, given))
        found = [arg.value if isinstance(arg, ConstantArgument) else next(results) for arg in self._outputs]
        return pytree.tree_unflatten(found, self._gives)

    def _flat(self, args, kwargs):
        """The tensors and numbers among the arguments, in the order of those that it was compiled with."""
        order = self._takes.child(1).context
        if kwargs.keys() != set(order):
            raise TypeError(f"the module was compiled with the keyword arguments {list(order)}, not {list(kwargs)}")
        leaves, spec = pytree.tree_flatten((args, {name: kwargs[name] for name in order}))
        if spec != self._takes:
            raise TypeError(f"the module was compiled for other arguments: {self._takes}, not {spec}")
        return leaves
