//! Every error code with what it means and what to do: what `egraft explain` prints.
//!
//! A test compares the table with the codes in the sources of all crates.

/// An error code, explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    /// The code.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn code(name: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code { name, meaning, remedy }
}

/// What to do about a code; nothing for one that there is not.
pub fn remedy(code: &str) -> &'static str {
    CODES.iter().find(|known| known.name == code).map_or("", |known| known.remedy)
}

/// Every code, sorted.
pub(crate) const CODES: &[Code] = &[
    code(
        "egraft::cli::against",
        "Other engines run the ONNX model itself, and show only its outputs; what was given is an artifact or another form of it, or every node is to be compared.",
        "Give the .onnx that it was made of, and leave out `--per-node`.",
    ),
    code(
        "egraft::cli::bug",
        "egraft reported a failure without saying what failed.",
        "Report it with the model: this is a bug.",
    ),
    code(
        "egraft::cli::emit",
        "The model is past the stage that was asked for: a program cannot be written as a graph.",
        "Ask for a later stage, or start from the model itself.",
    ),
    code(
        "egraft::cli::explain",
        "A code is explained without a model: a part of one or options of its compilation mean nothing there.",
        "Give the code alone; or check the path, if it was to be a model.",
    ),
    code(
        "egraft::cli::guard",
        "Guards lie in the memory of a GPU, and only the process that runs the model there can look at them.",
        "Give `--target cuda` with `--guard`, and leave out `--through`.",
    ),
    code(
        "egraft::cli::input_shape",
        "A shape given for an input contradicts the model: another number of axes, or a size that the model fixes.",
        "Give a shape that fits; `egraft inspect MODEL` shows the declared ones.",
    ),
    code(
        "egraft::cli::invalid",
        "A text form parses, but says something that no valid model does.",
        "The message names the rule and the place; correct the text.",
    ),
    code(
        "egraft::cli::keep",
        "Runs that know nothing of each other are to keep something.",
        "Leave out `--keep`: `verify` compares what the model computes, which is the same.",
    ),
    code(
        "egraft::cli::library",
        "A compiled library cannot be loaded, or refuses to run; its message follows.",
        "Read the message; `egraft verify --through jit` runs the same model without a library.",
    ),
    code(
        "egraft::cli::mcpu",
        "The processor is not known, or belongs to another architecture than the one code is made for.",
        "Choose `portable`, `host`, or a level from x86-64 to x86-64-v4.",
    ),
    code(
        "egraft::cli::mismatch",
        "The model gives other results here than in the engine that it was to be compared with, so nothing was timed.",
        "`egraft verify MODEL --per-node` names the first node that differs from the reference; if it finds none, the other engine differs from it.",
    ),
    code(
        "egraft::cli::no_data",
        "A folder or file of test data holds nothing that fits the model.",
        "Give a folder with set_K/input_J.pb, or a file whose tensors are called like the model's inputs, also after `in.`.",
    ),
    code(
        "egraft::cli::no_folder",
        "The folder of a file to be written does not exist.",
        "Create it first: egraft makes files, not paths.",
    ),
    code(
        "egraft::cli::no_graph",
        "A model that is lowered already, a program of kernels, is to be written as an ONNX model, which is a graph.",
        "Stop before it is lowered, with `--stop-after`, or start from the model itself.",
    ),
    code(
        "egraft::cli::no_room",
        "The disk has less room than an artifact and its weights need; nothing was written.",
        "Make room, or name a file on another disk with `-o`.",
    ),
    code(
        "egraft::cli::no_state",
        "No input and output are called as those that `--keep` names.",
        "`egraft inspect MODEL` shows them; PAST=PRESENT names one of each, and a `*` in both stands for any text.",
    ),
    code(
        "egraft::cli::no_tool",
        "A program of the system that links libraries is not installed.",
        "Install a C compiler, or compile to an executable, which needs none.",
    ),
    code(
        "egraft::cli::not_a_dump",
        "The folder for dumps holds files that are no dump, so nothing is written there.",
        "Give a new or empty folder, or that of a former dump.",
    ),
    code(
        "egraft::cli::not_lowered",
        "The chosen passes end in a graph, and machine code is made from programs.",
        "Let the passes run to their end, or write the graph with `--emit ir`.",
    ),
    code(
        "egraft::cli::not_text",
        "A file that should be a text form is not UTF-8.",
        "Check that it is the file that was meant.",
    ),
    code(
        "egraft::cli::onnx_only",
        "`--length`, `--absent` and `--value` are about sequences and optionals of ONNX models, `--qmoe-layout` is about weights in them; text forms and built-in models have none of these.",
        "Leave them out: a text form has been made for certain lengths and layouts already.",
    ),
    code(
        "egraft::cli::onnxruntime",
        "onnxruntime is not installed in the Python that was started, refuses the model or its inputs, or has ended.",
        "Its message tells; name a Python that has it with `--python PATH` or $EGRAFT_PYTHON.",
    ),
    code(
        "egraft::cli::other_files",
        "The folder for sources holds other files, so nothing is written there.",
        "Name another folder.",
    ),
    code(
        "egraft::cli::output_folder",
        "A folder stands where a file is to be written.",
        "Give the name of a file.",
    ),
    code(
        "egraft::cli::params",
        "The weights in the file do not suit the built-in model: some are missing, unknown, or of another shape or type.",
        "`egraft zoo show NAME`, with the same `--set`, lists the weights that the model wants.",
    ),
    code(
        "egraft::cli::passes",
        "The options that choose passes contradict each other or the model.",
        "Give either `--passes` or `--start-from`, and only passes that come later than what the model has been through.",
    ),
    code(
        "egraft::cli::python",
        "The Python that was to run another engine cannot be started.",
        "Name one that has onnxruntime with `--python PATH` or $EGRAFT_PYTHON, or leave out `--against`.",
    ),
    code(
        "egraft::cli::random_input",
        "No random tensor can be made for an input: it has values that mean something.",
        "Give data with `--data`.",
    ),
    code("egraft::cli::read", "The system refuses to read a file.", "Check the path and its permissions."),
    code(
        "egraft::cli::same_file",
        "What is written would replace the model that it is made of, or a file that belongs to it.",
        "Give another name with `-o`.",
    ),
    code(
        "egraft::cli::settings",
        "`--set` and `--params` configure built-in models: the model is a file, or has no such setting, or the setting no such value.",
        "Leave it out for a file; `egraft zoo show NAME` shows what a built-in model can be built with.",
    ),
    code(
        "egraft::cli::several_models",
        "These models cannot be compiled to one file.",
        "Give them names of their own, and write the graph of each by itself.",
    ),
    code(
        "egraft::cli::stdout",
        "Standard output cannot be written to.",
        "Check where it leads, and that there is room.",
    ),
    code(
        "egraft::cli::threads",
        "The other engine cannot run on as many threads as were asked for, so a comparison would be unfair.",
        "Leave out `--threads`, or give the number that the message states.",
    ),
    code(
        "egraft::cli::too_late_for_states",
        "What is kept from run to run is decided in a graph, and this model is a program already.",
        "Start from the model itself, or from a .ir.",
    ),
    code(
        "egraft::cli::tool",
        "A program of the system that links libraries failed; its message follows.",
        "Read the message; if it speaks of names beginning with `egraft_`, report it.",
    ),
    code(
        "egraft::cli::tract",
        "tract refuses the model or its inputs; its message follows.",
        "Read the message; `--against onnxruntime` is another second opinion.",
    ),
    code(
        "egraft::cli::unknown_code",
        "There is no error code of that name.",
        "`egraft explain` without a code lists all.",
    ),
    code(
        "egraft::cli::unknown_dim",
        "A size is given for a symbol that no input has.",
        "`egraft inspect MODEL` shows the symbols.",
    ),
    code(
        "egraft::cli::unknown_format",
        "The name of the file ends in nothing that egraft reads.",
        "Models end in .onnx, .ir, .kir or .prog; artifacts are what `egraft compile` wrote.",
    ),
    code(
        "egraft::cli::unknown_input",
        "A shape or a tensor is given for an input that the model does not have.",
        "`egraft inspect MODEL` shows the inputs.",
    ),
    code(
        "egraft::cli::unknown_node",
        "No node of the model has that in its name, and no kernel of its program is called so.",
        "`egraft inspect MODEL --kernels` lists kernels with the nodes that they compute; a part of a node's name is enough.",
    ),
    code("egraft::cli::unknown_op", "There is no op of that name.", "`egraft ops` lists them."),
    code(
        "egraft::cli::unknown_rule",
        "There is no rewrite rule of that name.",
        "`egraft rules` lists them; correct the name after `--disable-rule`, or leave it out.",
    ),
    code(
        "egraft::cli::unplanned",
        "A program was to become machine code before its buffers had places.",
        "Let the passes run to their end.",
    ),
    code(
        "egraft::cli::unsolvable_size",
        "A symbolic size follows from no input's shape: it stands only in products or with other symbols.",
        "Fix it with `--dim NAME=N`, or name an axis with `--input-shape`.",
    ),
    code(
        "egraft::cli::usage",
        "A command does not exist, or has no such option, or an option no such value; the message says which.",
        "`egraft COMMAND --help` explains all options.",
    ),
    code(
        "egraft::cli::verify_input",
        "An input for the comparison cannot be made or does not fit the model.",
        "Give the data, fix sizes with `--dim`, or check the file's dtypes and shapes.",
    ),
    code(
        "egraft::cli::verify_length",
        "An output that is a sequence or an optional has another number of tensors than the test data.",
        "Check the options that decide it; without them, they follow from the data.",
    ),
    code(
        "egraft::cli::weights_file",
        "`weights.bin` beside a text form is damaged or something else.",
        "Write the dump again.",
    ),
    code(
        "egraft::cli::without_onnx",
        "This egraft was built without the importer of ONNX models.",
        "Build it with its default features.",
    ),
    code(
        "egraft::cli::without_tract",
        "This egraft was built without the feature `tract`, which takes minutes to build.",
        "Build it with `cargo install egraft --features tract`, or compare with onnxruntime.",
    ),
    code(
        "egraft::cli::write",
        "The system refuses to write a file; what was there before is unchanged.",
        "Check that the folder is writable and has room.",
    ),
    code(
        "egraft::cli::zoo_model",
        "There is no built-in model of that name.",
        "`egraft zoo list` shows those that there are; or give a file.",
    ),
    code(
        "egraft::cranelift::codegen",
        "The code generator refused a function that egraft made.",
        "Report it with the model: this is a bug.",
    ),
    code(
        "egraft::cranelift::feature",
        "A kernel uses fused multiply-add, and the chosen processor has none.",
        "Choose x86-64-v3 or newer with `--mcpu`.",
    ),
    code(
        "egraft::cranelift::object",
        "An object file cannot be made for this architecture or name.",
        "Compile to an executable, or give the file a name made of letters and digits.",
    ),
    code(
        "egraft::cranelift::other",
        "Machine code cannot be made, for a reason without a code of its own.",
        "The message says more.",
    ),
    code(
        "egraft::cranelift::relocation",
        "Machine code refers to something outside of itself.",
        "Report it with the model: this is a bug.",
    ),
    code(
        "egraft::cranelift::stack",
        "The small arrays of a kernel do not fit a thread's stack.",
        "Make the larger ones scratch parameters in the .kir, or report the model.",
    ),
    code(
        "egraft::cranelift::stage_form",
        "A kernel still says what is computed, not how.",
        "Let the passes run to their end.",
    ),
    code(
        "egraft::cranelift::target",
        "No code can be made for the architecture.",
        "Choose a processor of this machine's architecture with `--mcpu`.",
    ),
    code(
        "egraft::cranelift::unbound",
        "A kernel uses a name that nothing in it defines.",
        "In a .kir written by hand, define it; else report it: it is a bug.",
    ),
    code(
        "egraft::cranelift::unsupported",
        "A kernel uses a form that machine code is not made for yet.",
        "The message names the form and what is instead.",
    ),
    code(
        "egraft::cuda::compile",
        "NVRTC does not compile the source of a kernel, or not for the architecture.",
        "A newer NVRTC may know the architecture; a source that it refuses is a bug of egraft: report the model.",
    ),
    code(
        "egraft::cuda::no_nvrtc",
        "NVRTC, the library that compiles CUDA sources, is not there.",
        "`pip install nvidia-cuda-nvrtc` installs it for the python3 that is called, or for the one that EGRAFT_PYTHON names.",
    ),
    code(
        "egraft::cuda::stage_form",
        "A kernel still says what is computed, not how.",
        "Let the passes run to their end.",
    ),
    code(
        "egraft::cuda::unbound",
        "A kernel uses a name that nothing in it defines.",
        "In a .kir written by hand, define it; else report it: it is a bug.",
    ),
    code(
        "egraft::cuda::unsupported",
        "A kernel uses a form for which there is no CUDA C++ yet.",
        "The message names the form and what is instead.",
    ),
    code(
        "egraft::device::driver",
        "CUDA's driver did not do what it was asked for: there is too little memory, or the GPU has failed.",
        "`nvidia-smi` shows whether the GPU works and has memory; `--target cpu` needs none.",
    ),
    code(
        "egraft::device::module",
        "CUDA's driver does not take the machine code of a kernel.",
        "NVRTC must not be of a newer CUDA than the driver: `pip install nvidia-cuda-nvrtc-cu12` is for one of CUDA 12. Else report it with the model and the GPU.",
    ),
    code(
        "egraft::device::no_driver",
        "A model is to run on a GPU, and there is no CUDA driver.",
        "Install NVIDIA's driver where there is a GPU; without one, `--emit cu` writes the kernels, and `--target cpu` runs the model.",
    ),
    code(
        "egraft::device::no_gpu",
        "There is a CUDA driver, and no GPU that it works with.",
        "`nvidia-smi` shows which GPUs there are; `--target cpu` needs none.",
    ),
    code(
        "egraft::device::no_image",
        "A model for GPUs has no code for the one that is there.",
        "Compile it again, with the architecture of that GPU as `--arch`.",
    ),
    code(
        "egraft::device::not_built",
        "A model for GPUs is loaded by a program that was built without the code that drives one.",
        "Executables and libraries that `egraft compile --target cuda` writes have it.",
    ),
    code(
        "egraft::device::old_driver",
        "CUDA's driver is too old.",
        "Install a newer one, or run the model with `--target cpu`.",
    ),
    code(
        "egraft::edit::no_experts",
        "Rewriting found no experts in the model: no grouped products that one choice names.",
        "`egraft explain MODEL` says which obligation kept the rules from them.",
    ),
    code(
        "egraft::edit::node",
        "An edit meets a node that it cannot follow: weights that are computed, or a router of another form.",
        "Export the model with a router that is a product and a softmax, and weights that are constants.",
    ),
    code(
        "egraft::edit::nothing",
        "An edit that changes nothing.",
        "Say what to change: `--prune-experts`, `--merge-experts`, `--momentum`, `--router`, `--upcycle` or `--fold-shared-experts`.",
    ),
    code(
        "egraft::edit::pass",
        "A pass cannot go on with the graph that is edited.",
        "`egraft check MODEL` names every node that cannot be compiled.",
    ),
    code(
        "egraft::edit::unfit",
        "What is asked for makes no sense for a layer of experts, or does not suit how it is built.",
        "`egraft inspect MODEL --kernels` shows how many experts a layer has, and how many a token chooses.",
    ),
    code(
        "egraft::lint::constant_routing",
        "Which tokens go to which experts does not depend on the input: an exporter followed one sample, and wrote down where its tokens went. For other inputs the model is wrong.",
        "Export the model so that the choice stays in it: with `torch.onnx.export(…, dynamo=True)`, or with experts that compute all tokens and weigh them by zeros.",
    ),
    code(
        "egraft::lint::f64_island",
        "A part of the model is computed in f64, while the rest is in narrower floats: a constant of f64 makes an exporter cast what meets it, and all that follows. f64 takes twice the memory of f32, and half of the elements fit a vector.",
        "Give the constant the type of what it meets, as `torch.tensor(0.1, dtype=x.dtype)` and `numpy.float32(0.1)` do, and export again; where the digits are needed, all is well.",
    ),
    code(
        "egraft::lint::fixed_size",
        "The model's inputs leave a size open, but a node accepts one value only: an exporter followed one sample, and wrote its batch or its length down as a shape. Every other size is refused.",
        "Export the model with sizes that come from its inputs (`x.shape[0]`, `-1`) and not from the sample; or give the size with `--dim`, which says that no other is meant.",
    ),
    code(
        "egraft::lint::missing_experts",
        "The scores that a router chooses by have more columns than there are experts in the model: an exporter left out those that its sample did not choose. Tokens that choose them get nothing of them.",
        "Export the model with every expert in it: without a test whether an expert has tokens, or with a sample that reaches all; or remove their columns from the router.",
    ),
    code(
        "egraft::lint::unreachable_experts",
        "A constant that is added to the scores of some experts is so much lower than that of others that these are always preferred.",
        "Check the bias of the router; experts that are off on purpose may be removed from the model, with their columns.",
    ),
    code(
        "egraft::onnx::attribute",
        "An attribute of a node is missing, of another kind than the operator declares, or has a value that makes no sense.",
        "Export the model again; `onnx.checker` shows the same.",
    ),
    code(
        "egraft::onnx::cycle",
        "Nodes wait for each other's results.",
        "The file is broken: export it again.",
    ),
    code(
        "egraft::onnx::data",
        "A file of test data holds something other than tensors.",
        "Only tensors, sequences of tensors and optionals of these are read.",
    ),
    code(
        "egraft::onnx::duplicate",
        "Two things give the same value a name.",
        "The file is broken: export it again.",
    ),
    code(
        "egraft::onnx::export",
        "A graph has a part that cannot be written as ONNX: an op that has no form there for its operands, or a size that no input tells.",
        "Write a .ir instead; fix the size with `--dim`; or report the op with the types of its operands.",
    ),
    code(
        "egraft::onnx::external_file",
        "A file of external data cannot be read.",
        "Keep the model's data files beside it, under the names that it states.",
    ),
    code(
        "egraft::onnx::external_path",
        "A tensor names a file outside of the model's folder, or in a way that no portable path has.",
        "Move the data below the model's folder and save the model with relative locations.",
    ),
    code(
        "egraft::onnx::external_range",
        "A tensor lies beyond the end of its file, or its place is no number.",
        "The data file is cut off or belongs to another model: copy it again.",
    ),
    code(
        "egraft::onnx::function",
        "A model-local function is defined twice, or called with more inputs or outputs than it has.",
        "Export the model again.",
    ),
    code(
        "egraft::onnx::function_attribute",
        "A model-local function needs an attribute that a call leaves out.",
        "Export the model again, or inline its functions with `onnx.inliner`.",
    ),
    code(
        "egraft::onnx::input",
        "A node lacks an input that its operator requires.",
        "Export the model again.",
    ),
    code(
        "egraft::onnx::input_value",
        "Which tensors a sequence consists of must be known at compile time, and depends on the value of an input.",
        "Compile for one value of it: `--value NAME=N`. Others are refused when the model runs.",
    ),
    code(
        "egraft::onnx::ir_version",
        "The version of the file format is missing, or none that egraft reads.",
        "Save the model with ir_version 3 to 14.",
    ),
    code(
        "egraft::onnx::length",
        "An input is a sequence, and nothing says how many tensors it holds.",
        "Say it with `--length NAME=N`; an optional without a sequence is `--absent NAME`.",
    ),
    code(
        "egraft::onnx::malformed",
        "The file is no complete ONNX model.",
        "Compare its size with the original's; a file of a few lines may be a pointer of git-lfs.",
    ),
    code("egraft::onnx::negative_dim", "An input is given a negative size.", "Give it a size of at least 0."),
    code("egraft::onnx::no_graph", "The model holds no graph.", "The file is broken: export it again."),
    code(
        "egraft::onnx::no_output",
        "An output is promised that nothing computes.",
        "The file is broken: export it again.",
    ),
    code(
        "egraft::onnx::no_shape",
        "An input states no shape.",
        "State it with `--input-shape NAME:1x3x224x224`; letters make a symbol.",
    ),
    code("egraft::onnx::op_type", "A node names no operator.", "The file is broken: export it again."),
    code(
        "egraft::onnx::opset",
        "The model imports no, two, or an unknown version of an operator set, or uses an operator that came later.",
        "Convert it with onnx.version_converter, or export it with opset 1 to 28.",
    ),
    code(
        "egraft::onnx::option",
        "A size, shape, length or value is given for something that the model does not have, or that it fixes otherwise.",
        "`egraft inspect MODEL` shows inputs and symbols.",
    ),
    code(
        "egraft::onnx::output_type",
        "The declared type of an output contradicts the computed one.",
        "Run onnx.shape_inference with strict_mode=True: the model contradicts itself.",
    ),
    code(
        "egraft::onnx::recursion",
        "Functions of the model call each other in a circle.",
        "ONNX forbids it: export the model again.",
    ),
    code(
        "egraft::onnx::run_time_value",
        "An operator needs a value at compile time that the model computes from its inputs.",
        "Make it a constant, or compute it from shapes only.",
    ),
    code(
        "egraft::onnx::sequence",
        "An operator that takes tensors is given a sequence of tensors, or an optional without an element.",
        "Take the tensor out of it first (SequenceAt, ConcatFromSequence, OptionalGetElement).",
    ),
    code("egraft::onnx::sparse", "An initializer is stored in sparse form.", "Store it as a dense tensor."),
    code(
        "egraft::onnx::tensor_data",
        "The contents of a tensor do not fit its type, or are stored twice or not at all.",
        "The file is broken: export it again.",
    ),
    code(
        "egraft::onnx::tensor_dims",
        "A tensor has a negative size, or more bytes than any may have.",
        "The file is broken: export it again.",
    ),
    code(
        "egraft::onnx::tensor_dtype",
        "A tensor has an element type that egraft does not have.",
        "Export with numbers or bools; strings, complex numbers and floats of 6 bits are not supported.",
    ),
    code(
        "egraft::onnx::too_large",
        "A value would have more bytes than any tensor may have.",
        "Check the sizes of inputs and reshapes.",
    ),
    code(
        "egraft::onnx::too_many_nodes",
        "Functions that call functions would become more nodes than any model has.",
        "Simplify the model's functions.",
    ),
    code(
        "egraft::onnx::type",
        "An input or output is no tensor of an element type that egraft has.",
        "Export the model with tensors as inputs and outputs.",
    ),
    code(
        "egraft::onnx::undefined",
        "A node reads a value that nothing gives.",
        "The file is broken: export it again.",
    ),
    code(
        "egraft::onnx::unsupported",
        "An attribute, or a value of one, that egraft does not support.",
        "The message says which; export the model without it.",
    ),
    code(
        "egraft::onnx::unsupported_op",
        "An operator that egraft does not have yet.",
        "`egraft check MODEL` lists all of them with what can be done; `egraft ops` shows what there is.",
    ),
    code(
        "egraft::op::arity",
        "An op has another number of operands than it takes.",
        "Correct the text; `egraft ops NAME` shows the operands.",
    ),
    code(
        "egraft::op::attribute",
        "An attribute is not declared, missing, of another kind, or makes no sense for the operands.",
        "`egraft ops NAME` shows the attributes.",
    ),
    code(
        "egraft::op::axis",
        "An axis is not one of the operand's.",
        "Axes count from 0, or from the end with -1.",
    ),
    code(
        "egraft::op::dtype",
        "Operands have element types that the op is not defined for, or that differ.",
        "Insert a cast.",
    ),
    code(
        "egraft::op::rank",
        "An operand has another number of axes than the op is defined for, or a result has more than are supported.",
        "Insert a reshape.",
    ),
    code(
        "egraft::op::size",
        "Two sizes that must agree do not. Symbolic sizes agree only with themselves.",
        "Check the model's shapes; fix symbols with `--dim` if they are equal in fact.",
    ),
    code(
        "egraft::op::unsupported",
        "A legal value of an attribute that egraft does not implement.",
        "Export the model without it.",
    ),
    code(
        "egraft::passes::bug",
        "A pass produced something that the verifier refuses.",
        "Report it with the model: this is a bug.",
    ),
    code(
        "egraft::passes::link",
        "Models that are compiled together keep states of one name that are not the same.",
        "Call sizes alike with `--input-shape`, or fix them with `--dim`.",
    ),
    code(
        "egraft::passes::no_lowering",
        "An op has a meaning but no native form yet: it can be evaluated, not compiled.",
        "Replace it in the model; `egraft check MODEL` lists all such nodes.",
    ),
    code(
        "egraft::passes::state",
        "What is to be kept from run to run is no state: an input and an output of one type, or an output that is the \
         input with rows behind it.",
        "A growing state needs `--capacity`, and a symbolic length. Leave other inputs and outputs as they are.",
    ),
    code(
        "egraft::passes::unbound_size",
        "The size of a value depends on values, not on the inputs' shapes.",
        "Make it a constant, or compute it from shapes only.",
    ),
    code("egraft::passes::unknown_pass", "There is no pass of that name.", "`egraft passes` lists them."),
    code(
        "egraft::passes::wrong_noun",
        "A pass for graphs was given a program, or the other way round.",
        "`egraft passes` shows what each works on.",
    ),
    code(
        "egraft::python::artifact",
        "A model that was loaded from an artifact has no graph any more: it can only be run.",
        "Compile the model that the artifact was made of: `egraft.compile(...)`.",
    ),
    code(
        "egraft::python::options",
        "An argument of a function of the Python package has no such value.",
        "Its documentation lists the values that there are: `help(egraft.compile)`.",
    ),
    code(
        "egraft::python::output",
        "An array that results are to be written to cannot take them: another type or shape, not contiguous, or read-only.",
        "Make it with `numpy.empty` of the type and shape in the message, or leave `out` away.",
    ),
    code(
        "egraft::python::panic",
        "egraft stopped where it must not.",
        "Report it with the model: this is a bug.",
    ),
    code(
        "egraft::python::tensor",
        "An input is nothing that NumPy or DLPack can show as a tensor of numbers in the memory of the processor.",
        "Give a NumPy array, or a tensor on the CPU; text and objects have no form in egraft.",
    ),
    code(
        "egraft::python::type",
        "NumPy has no such element type by itself: narrow floats and integers come with the package ml_dtypes.",
        "Install ml_dtypes: `pip install ml_dtypes`.",
    ),
    code(
        "egraft::runner::bug",
        "The runner did what it must not.",
        "Report it with the model: this is a bug.",
    ),
    code(
        "egraft::runner::dim_conflict",
        "`--dim` contradicts the shape of an input that is given.",
        "Leave the option out.",
    ),
    code(
        "egraft::runner::duplicate",
        "A file holds two tensors of one name.",
        "Give each a name of its own.",
    ),
    code("egraft::runner::duplicate_input", "An input is given twice.", "Leave out one of the two."),
    code(
        "egraft::runner::element",
        "A file stands for elements of a type that it does not have, and holds a byte that is none of them.",
        "Write integers of 4 and 2 bits as bytes in their range, and floats of 4 bits as bytes of 0 to 15.",
    ),
    code(
        "egraft::runner::files",
        "The number of files does not fit the number of inputs.",
        "Give one file per input, or a multiple of that for several runs.",
    ),
    code(
        "egraft::runner::format",
        "The extension of a file names no format that fits here.",
        "Use .npy for one tensor, .npz or .safetensors for several.",
    ),
    code("egraft::runner::no_entries", "The model has nothing that could be called.", "Compile it again."),
    code("egraft::runner::npy", "A .npy file is not what it should be.", "Write it with numpy.save."),
    code(
        "egraft::runner::npz",
        "A .npz archive is damaged or packed in an unusual way.",
        "Write it with numpy.savez.",
    ),
    code(
        "egraft::runner::random_input",
        "A random input would have sizes that no tensor has.",
        "Give the input, or choose sizes with `--dim`.",
    ),
    code("egraft::runner::read", "A file of tensors cannot be read.", "Check the path and its permissions."),
    code(
        "egraft::runner::safetensors",
        "A .safetensors file is not what it should be.",
        "Write it with safetensors.numpy.save_file.",
    ),
    code(
        "egraft::runner::state",
        "A file of states holds one that the model does not have, or has with other sizes.",
        "Give a file that `--save-state` wrote for this model, with inputs of the same batch; `--inspect` shows the states.",
    ),
    code(
        "egraft::runner::stdout",
        "Standard output cannot be written to.",
        "Use `--outputs` to write a file.",
    ),
    code(
        "egraft::runner::unknown_dim",
        "The model has no symbolic size of that name.",
        "`--inspect` shows the shapes of all inputs.",
    ),
    code(
        "egraft::runner::unknown_entry",
        "The model has no entry of that name.",
        "`--inspect` shows all entries.",
    ),
    code(
        "egraft::runner::unknown_input",
        "The model has no input of that name.",
        "`--inspect` shows the inputs.",
    ),
    code("egraft::runner::usage", "The options make no sense.", "`--help` explains all options."),
    code(
        "egraft::runner::write",
        "A file of tensors cannot be written.",
        "Check that its folder exists, is writable and has room.",
    ),
    code(
        "egraft::runtime::abi_version",
        "The model's kernels were made for another version of the runtime.",
        "Compile the model again with this egraft.",
    ),
    code(
        "egraft::runtime::architecture",
        "The model was compiled for another architecture.",
        "Compile it on, or for, this machine.",
    ),
    code(
        "egraft::runtime::bytes",
        "A buffer has another number of bytes than its tensor.",
        "Give a buffer of exactly that size.",
    ),
    code(
        "egraft::runtime::code",
        "An artifact has no code, or code twice.",
        "Use the file that `egraft compile` wrote, unchanged.",
    ),
    code(
        "egraft::runtime::corrupted",
        "A part of an artifact is not what was written.",
        "Copy it again, or compile it again.",
    ),
    code(
        "egraft::runtime::count",
        "Another number of tensors is given than the model takes.",
        "Give one for each input.",
    ),
    code(
        "egraft::runtime::cpu_features",
        "This processor lacks instructions that the model was compiled for.",
        "Compile it with `--mcpu portable`, or one that this processor has.",
    ),
    code(
        "egraft::runtime::device",
        "The GPU that a model runs on did not do what it was asked for, or has no room for the model.",
        "`nvidia-smi` shows whether it works and has memory; smaller inputs need less of it, `--target cpu` none.",
    ),
    code(
        "egraft::runtime::dim",
        "The size of an input contradicts the model, or another input.",
        "`egraft inspect` shows the shapes; sizes of one symbol agree.",
    ),
    code(
        "egraft::runtime::dtype",
        "An input has another element type than the model takes.",
        "Convert it: nothing is cast silently.",
    ),
    code("egraft::runtime::duplicate_input", "An input is given twice.", "Give it once."),
    code(
        "egraft::runtime::dynamic_output",
        "Memory was given for an output whose sizes are decided while the model runs.",
        "Give none: the session has memory for it, and its shape and data after the run.",
    ),
    code(
        "egraft::runtime::executable_denied",
        "The system denies executable memory.",
        "Allow it: a mount without noexec, a policy that permits mapped code.",
    ),
    code(
        "egraft::runtime::fixed_output",
        "The data of an output was asked for that is written to the memory that was given for it.",
        "Read it there.",
    ),
    code(
        "egraft::runtime::format_version",
        "The artifact has another layout than this runtime reads.",
        "Compile the model again with this egraft.",
    ),
    code("egraft::runtime::io", "An artifact cannot be read.", "Check the path and its permissions."),
    code(
        "egraft::runtime::layout",
        "Buffers of a compiled model do not fit its memory.",
        "Report it with the model: this is a bug.",
    ),
    code(
        "egraft::runtime::measured",
        "A size that the model decides while it runs is negative or above what is possible.",
        "Give other values; the message names the size. If all values make sense, it is a bug: report it.",
    ),
    code(
        "egraft::runtime::misaligned",
        "A buffer or a container is not aligned.",
        "Align buffers to their elements, containers to 64 bytes.",
    ),
    code("egraft::runtime::missing", "An input or output was not set.", "Set all of them before a run."),
    code(
        "egraft::runtime::negative_size",
        "A size of the model is negative for these inputs.",
        "Give larger inputs; the message names the expression.",
    ),
    code(
        "egraft::runtime::no_entry",
        "The model has no entry of that number.",
        "Ask for the number of entries first.",
    ),
    code(
        "egraft::runtime::not_run",
        "The shape or the data of an output was asked for that only a run decides.",
        "Run the session first.",
    ),
    code(
        "egraft::runtime::null",
        "A pointer that a call of the C interface needs is null.",
        "Pass a valid one.",
    ),
    code(
        "egraft::runtime::out_of_memory",
        "There is not enough memory.",
        "Give smaller inputs, or fewer at a time.",
    ),
    code(
        "egraft::runtime::own_executable",
        "A program cannot find its own file, in which its model lies.",
        "On Linux, mount /proc.",
    ),
    code(
        "egraft::runtime::plan",
        "The plan in an artifact contradicts itself.",
        "Compile the model again; if that does not help, report it.",
    ),
    code(
        "egraft::runtime::rank",
        "An input has another number of axes than the model takes.",
        "`egraft inspect` shows the shapes.",
    ),
    code(
        "egraft::runtime::requirement",
        "Sizes that are decided while the model runs must agree, and do not.",
        "Give other values; the message has both sizes and where each comes from.",
    ),
    code(
        "egraft::runtime::room",
        "A step uses more of a buffer than there is: a bug in the compiler, found before it did harm.",
        "Report it with the model.",
    ),
    code(
        "egraft::runtime::sidecar_missing",
        "The file of weights is not beside the artifact.",
        "Keep both in one folder, under the names that they were written with.",
    ),
    code(
        "egraft::runtime::sidecar_wrong",
        "The file of weights belongs to another artifact, or is cut off.",
        "Copy it again, or compile the model again.",
    ),
    code(
        "egraft::runtime::size",
        "A size cannot be computed for these inputs: it overflows or divides by zero.",
        "Give other inputs; the message names the expression.",
    ),
    code(
        "egraft::runtime::state",
        "Inputs of these sizes do not fit the state that is kept between calls.",
        "Reset the state first.",
    ),
    code(
        "egraft::runtime::stripped",
        "The program carries no model: `strip` drops what egraft appends.",
        "Compile again and leave the file as it is.",
    ),
    code(
        "egraft::runtime::too_large",
        "A tensor or the arena has more bytes than can be counted.",
        "Give smaller inputs.",
    ),
    code(
        "egraft::runtime::trespass",
        "A kernel wrote beside its arrays: a bug in the compiler, found by `egraft verify --guard`.",
        "Report it with the model.",
    ),
    code("egraft::runtime::truncated", "The artifact is cut off.", "Copy it again."),
    code(
        "egraft::runtime::unbindable",
        "The size of an input has not the form that the model states, such as 2*n + 1.",
        "Give an input of a size that has.",
    ),
    code(
        "egraft::runtime::unbound",
        "A session was asked for sizes before its inputs were known.",
        "Bind it first.",
    ),
    code(
        "egraft::runtime::unknown_input",
        "The model has no input of that name.",
        "`egraft inspect` shows the inputs.",
    ),
    code(
        "egraft::runtime::weight_hash",
        "A weight is not what was written.",
        "Copy or compile the weights again.",
    ),
    code(
        "egraft::text::count",
        "Two things that come in pairs do not.",
        "The message says which; correct the text.",
    ),
    code(
        "egraft::text::name",
        "A name is not defined before this place, or defined twice.",
        "Values are defined before they are used, once.",
    ),
    code(
        "egraft::text::number",
        "A number that its type does not hold.",
        "Give a smaller one, or another type.",
    ),
    code("egraft::text::op", "There is no op of that name.", "`egraft ops` lists them."),
    code(
        "egraft::text::syntax",
        "The text is not formed as it must be.",
        "The message says what was expected; a dump shows the form.",
    ),
    code(
        "egraft::text::type",
        "A stated type is not the type of what it is stated of, or a function is not defined for its operands.",
        "Correct the type, or insert a cast.",
    ),
    code(
        "egraft::text::weight",
        "A weight is not stored beside the text, is damaged, or is too large to stand in it.",
        "Keep `weights.bin` beside the text, or write the dump again.",
    ),
    code(
        "egraft::verify::cycle",
        "A node depends on its own result, so there is no order in which the graph could be computed.",
        "Break the cycle in the text; loops are ops with a nested graph.",
    ),
    code(
        "egraft::verify::decided_twice",
        "Two nodes, or a node and the shape of an input, give one size its value.",
        "Give one of the sizes another name.",
    ),
    code(
        "egraft::verify::kept",
        "An output is kept for an input that there is not, that has another type, or for which another is kept.",
        "Correct what stands behind `for` in the `return` of the .ir.",
    ),
    code(
        "egraft::verify::kernel",
        "A kernel breaks a rule: an access that may leave its array, types that do not go together, iterations of a parallel loop that may write to one place.",
        "In a text of your own, correct the line that the message names. After a pass of egraft this is a bug: report it.",
    ),
    code(
        "egraft::verify::leaf_type",
        "An input or a weight is declared with another type than it has.",
        "Correct the declared type.",
    ),
    code(
        "egraft::verify::negative_size",
        "A size of an input is a negative number.",
        "Give a size of 0 or more, or a symbol.",
    ),
    code(
        "egraft::verify::no_value",
        "A node or an output uses a result that its node does not have.",
        "Use one of the results that the op gives.",
    ),
    code(
        "egraft::verify::program",
        "A program breaks a rule: a step passes arguments that its kernel does not take, a buffer is read before it is written, or two buffers overlap while both are needed.",
        "In a text of your own, correct the step that the message names. After a pass of egraft this is a bug: report it.",
    ),
    code(
        "egraft::verify::stale_type",
        "A result is declared with another type than its op gives for these operands.",
        "Declare the type that the message names.",
    ),
    code("egraft::verify::twice", "Two inputs, or two outputs, have one name.", "Rename one of them."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The codes in the sources of ours, by how they are written: three words, each after `::`.
    fn written(folder: &Path, found: &mut BTreeSet<String>) {
        let mut entries: Vec<_> =
            fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                written(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("codes.rs")
            {
                let text = fs::read_to_string(&path).expect("text");
                found.extend(text.split('"').filter(|word| is_code(word)).map(str::to_owned));
            }
        }
    }

    fn is_code(word: &str) -> bool {
        let parts: Vec<&str> = word.split("::").collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        parts.len() == 3 && parts[0] == "egraft" && parts.iter().all(is_word)
    }

    #[test]
    fn every_code_is_explained_and_every_explained_code_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        let crates = [
            "src",
            "ir/src",
            "ops/src",
            "passes/src",
            "backends/cranelift/src",
            "backends/cuda/src",
            "backends/reference/src",
            "backends/runner/src",
            "backends/runtime/src",
            "models/onnx/src",
            "models/zoo/src",
            "python/src",
        ];
        // A packaged crate comes without the others.
        if !root.join("ir").is_dir() {
            return;
        }
        for folder in crates.map(|room| root.join(room)) {
            assert!(folder.is_dir(), "there is no {}", folder.display());
            written(&folder, &mut found);
        }
        let explained: BTreeSet<String> = CODES.iter().map(|code| code.name.to_owned()).collect();
        let missing: Vec<_> = found.difference(&explained).collect();
        assert!(missing.is_empty(), "not explained: {missing:?}");
        let stale: Vec<_> = explained.difference(&found).collect();
        assert!(stale.is_empty(), "explained, but nowhere reported: {stale:?}");
    }

    #[test]
    fn the_table_is_sorted_and_says_something() {
        assert!(CODES.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(CODES.iter().all(|code| code.meaning.len() > 20 && !code.remedy.is_empty()));
    }
}
