//! What exporters note about a node: the module it came from, and the line of source.
//!
//! Read are the properties that torch's exporter writes (`pkg.torch.onnx.*`, `namespace`) and, for the older one,
//! the scope in the node's name and the stack in its `doc_string`. What is not understood is left empty: origins
//! are for people, and a wrong one is worse than none.

use ir::origin::Place;
use onnx_protobuf::NodeProto;

use crate::export;

/// The origin of a node that is called `name`, or `position`th of its graph.
pub(crate) fn place(node: &NodeProto, position: usize) -> Place {
    let property = |key: &str| {
        let entry = node.metadata_props.iter().find(|entry| entry.key == key)?;
        Some(entry.value.as_str()).filter(|value| !value.is_empty())
    };
    let module = property("pkg.torch.onnx.name_scopes")
        .and_then(scopes_of_list)
        .or_else(|| property(export::MODULE).map(str::to_owned))
        .or_else(|| property("namespace").and_then(module_of_namespace))
        .or_else(|| module_of_name(&node.name))
        .unwrap_or_default();
    let source = property("pkg.torch.onnx.stack_trace")
        .and_then(source_of_traceback)
        .or_else(|| property(export::SOURCE).map(str::to_owned))
        .or_else(|| source_of_scopes(&node.doc_string))
        .unwrap_or_default();
    Place { name: name(node, position), op: op(node), module, source }
}

/// The node's name; a made one (`Conv_3`) if it has none.
pub(crate) fn name(node: &NodeProto, position: usize) -> String {
    if node.name.is_empty() { format!("{}_{position}", node.op_type) } else { node.name.clone() }
}

/// The op type, with the domain if it is not the default one.
pub(crate) fn op(node: &NodeProto) -> String {
    match domain(&node.domain) {
        "" => node.op_type.clone(),
        domain => format!("{domain}.{}", node.op_type),
    }
}

/// The domain, `""` for either spelling of the default one.
pub(crate) fn domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// `['', 'layers', 'layers.0', 'linear']`: paths of the modules around, outermost first, then the node itself.
fn scopes_of_list(list: &str) -> Option<String> {
    let items = list.trim().strip_prefix('[')?.strip_suffix(']')?;
    let scopes: Vec<&str> =
        items.split(',').map(|item| item.trim().trim_matches(|c| c == '\'' || c == '"')).collect();
    Some(scopes.get(scopes.len().checked_sub(2)?)?.to_string())
}

/// `: model.Net/layers: …Sequential/layers.0: …Linear/linear: aten.linear.default`.
fn module_of_namespace(namespace: &str) -> Option<String> {
    let scopes: Vec<&str> =
        namespace.split('/').map(|scope| scope.split(':').next().unwrap_or("").trim()).collect();
    Some(scopes.get(scopes.len().checked_sub(2)?)?.to_string())
}

/// `/layers/layers.0/Gemm`: a scope may repeat the one around it.
fn module_of_name(name: &str) -> Option<String> {
    let (scopes, _) = name.strip_prefix('/')?.rsplit_once('/')?;
    let mut path = String::new();
    let mut last = "";
    for scope in scopes.split('/') {
        let own =
            scope.strip_prefix(last).and_then(|rest| rest.strip_prefix('.')).filter(|_| !last.is_empty());
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(own.unwrap_or(scope));
        last = scope;
    }
    Some(path)
}

/// `File "model.py", line 21, in forward`, innermost last: the innermost that is not the framework's own.
fn source_of_traceback(stack: &str) -> Option<String> {
    let mut frames = stack.lines().filter_map(|line| {
        let (file, rest) = line.trim().strip_prefix("File \"")?.split_once("\", line ")?;
        let line = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        source(file, line)
    });
    frames.next_back()
}

/// `model.py(21): forward`, innermost first.
fn source_of_scopes(stack: &str) -> Option<String> {
    stack.lines().find_map(|frame| {
        let (file, rest) = frame.split_once('(')?;
        let (line, _) = rest.split_once("): ")?;
        source(file, line)
    })
}

/// `file:line`, unless the file belongs to the framework. Folders are dropped: they say where the model was
/// exported, not what it is.
fn source(file: &str, line: &str) -> Option<String> {
    let parts: Vec<&str> = file.split(['/', '\\']).collect();
    let name = *parts.last()?;
    let is_line = !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit());
    (is_line && !name.is_empty() && !parts.contains(&"torch")).then(|| format!("{name}:{line}"))
}

#[cfg(test)]
mod tests {
    use onnx_protobuf::StringStringEntryProto;

    use super::*;

    fn node(name: &str, properties: &[(&str, &str)]) -> NodeProto {
        let mut node =
            NodeProto { name: name.to_owned(), op_type: "Gemm".to_owned(), ..NodeProto::default() };
        for (key, value) in properties {
            node.metadata_props.push(StringStringEntryProto {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
                ..StringStringEntryProto::default()
            });
        }
        node
    }

    #[test]
    fn properties_of_the_current_exporter() {
        let stack = "File \"/home/a/model.py\", line 21, in forward\n    x = self.layers(x)\n  File \
                     \"/usr/lib/python3/site-packages/torch/nn/modules/linear.py\", line 134, in forward\n    return";
        let node = node(
            "node_linear",
            &[
                ("namespace", ": model.Net/other: torch.nn.Linear/linear: aten.linear.default"),
                ("pkg.torch.onnx.name_scopes", "['', 'layers', 'layers.0', 'linear']"),
                ("pkg.torch.onnx.stack_trace", stack),
            ],
        );
        let place = place(&node, 4);
        assert_eq!((place.name.as_str(), place.op.as_str()), ("node_linear", "Gemm"));
        assert_eq!((place.module.as_str(), place.source.as_str()), ("layers.0", "model.py:21"));
    }

    #[test]
    fn namespace_serves_where_scopes_are_missing() {
        let node =
            node("n", &[("namespace", ": model.Net/head: torch.nn.Linear/linear: aten.linear.default")]);
        assert_eq!(place(&node, 0).module, "head");
    }

    #[test]
    fn the_older_exporter() {
        let mut node = node("/layers/layers.0/fc/Gemm", &[]);
        node.doc_string =
            "torch/nn/modules/linear.py(114): forward\nsrc/model.py(21): forward\nexport.py(9): <module>\n"
                .to_owned();
        let place = place(&node, 0);
        assert_eq!((place.module.as_str(), place.source.as_str()), ("layers.0.fc", "model.py:21"));
    }

    #[test]
    fn names_and_domains() {
        let mut plain = node("", &[]);
        assert_eq!(place(&plain, 3), Place { name: "Gemm_3".into(), op: "Gemm".into(), ..Place::default() });
        plain.domain = "ai.onnx".to_owned();
        assert_eq!(op(&plain), "Gemm");
        plain.domain = "com.microsoft".to_owned();
        assert_eq!(op(&plain), "com.microsoft.Gemm");
    }

    #[test]
    fn nonsense_gives_nothing() {
        let node = node(
            "n",
            &[
                ("namespace", "x"),
                ("pkg.torch.onnx.name_scopes", "[]"),
                ("pkg.torch.onnx.stack_trace", "File \"\", line x"),
            ],
        );
        let place = place(&node, 0);
        assert_eq!((place.module.as_str(), place.source.as_str()), ("", ""));
    }
}
