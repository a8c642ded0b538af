"""A model as a notebook shows it."""

from html import escape

from ._errors import Error


def _row(cells, tag):
    return "<tr>" + "".join(f"<{tag} style='text-align:left'>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _port(port):
    return f"{port.name}: {port.dtype}[{', '.join(map(str, port.shape))}]"


def page(model):
    """The kernels as a table, and as a picture where the program is known."""
    ports = f"{', '.join(map(_port, model.inputs))} → {', '.join(map(_port, model.outputs))}"
    head = ("kernel", "kind", "flops", "bytes read", "bytes written", "rules", "from")
    rows = [
        (
            kernel["name"],
            kernel["kind"],
            kernel["flops"],
            kernel["bytes_read"],
            kernel["bytes_written"],
            ", ".join(kernel["rules"]),
            ", ".join(kernel["origins"]),
        )
        for kernel in model.kernels()
    ]
    table = "".join([_row(head, "th"), *(_row(row, "td") for row in rows)])
    try:
        picture = f"<details><summary>picture</summary>{model.svg()}</details>"
    except Error:
        # An artifact has no program to be drawn.
        picture = ""
    return f"<div><b>{escape(model.name)}</b> {escape(ports)}<table>{table}</table>{picture}</div>"
