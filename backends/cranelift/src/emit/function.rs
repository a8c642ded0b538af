//! One machine function under construction: what is in scope, and control flow.
//!
//! A kernel is one function, plus one for each parallel body and each epilogue of a matrix product. Those get what
//! was in scope where they stand through a frame on the caller's stack: 8 bytes each for the argument table, the
//! size table, and every scalar and small array in scope.

use std::collections::{BTreeMap, HashMap};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, AbiParam, BlockArg, InstBuilder, MemFlagsData, Type, types};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use ir::dim::{Dim, Ranges, Symbol};
use ir::dtype::DType;
use ir::kernel::{ExprKind, Kernel};
use ir::service::Service;

use super::lanes::VectorLoop;
use super::value::{Value, scalar_type};
use crate::error::EmitError;
use crate::target::Target;

/// Stack that the small arrays of one function may take.
pub(crate) const STACK_LIMIT: u64 = 256 * 1024;

/// The functions made so far; a function is called by its place.
pub(crate) struct Module<'t> {
    /// The target.
    pub(crate) target: &'t Target,
    /// Its code generator.
    pub(crate) isa: &'t dyn TargetIsa,
    /// Name and body of each function.
    pub(crate) functions: Vec<(String, Body)>,
}

/// The body of a function.
pub(crate) enum Body {
    /// To be compiled.
    Clif(Box<clif::Function>),
    /// Machine code that refers to nothing outside.
    Bytes(Vec<u8>),
}

/// What a name in scope stands for.
#[derive(Debug, Clone)]
pub(crate) enum Local {
    /// An index: this function of other names.
    Index(Dim),
    /// A scalar.
    Scalar {
        /// Its type.
        dtype: DType,
        /// Its value.
        value: Value,
        /// Loops around its binding.
        depth: usize,
    },
    /// A scalar that changes: a variable, or one for each four lanes.
    Variable {
        /// Its type.
        dtype: DType,
        /// The variables.
        slots: Vec<Variable>,
        /// Does it differ between lanes?
        lanes: bool,
    },
}

/// An array in scope.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    /// Address of its first element.
    pub(crate) base: clif::Value,
    /// Its sizes.
    pub(crate) shape: Vec<Dim>,
    /// Is it a parameter (else it lives on the stack)?
    pub(crate) param: bool,
    /// Its element type.
    pub(crate) dtype: DType,
}

/// What is in scope, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) locals: BTreeMap<Symbol, Local>,
    pub(crate) arrays: BTreeMap<Symbol, Array>,
    pub(crate) ranges: Ranges,
    /// Loops around this place.
    pub(crate) depth: usize,
}

/// What an expression is known to be, and what it gave: by its address, which stays while the kernel is borrowed.
/// Shared expressions are thus visited once.
#[derive(Default)]
pub(crate) struct Memo {
    /// One table for each branch that is open; a value computed in a branch is unknown after it.
    pub(crate) values: Vec<HashMap<(*const ExprKind, Option<usize>), Value>>,
    pub(crate) varies: HashMap<*const ExprKind, bool>,
    pub(crate) loads: HashMap<*const ExprKind, bool>,
}

/// The place of a scalar among the names in scope: `%n` is another thing than the size or axis `n`.
fn scalar_name(name: &Symbol) -> Symbol {
    Symbol::new(format!("let {name}"))
}

impl Scope {
    /// What a name in index arithmetic stands for: a size or an axis, or else a scalar.
    pub(crate) fn index(&self, name: &Symbol) -> Option<&Local> {
        self.locals.get(name).or_else(|| self.scalar(name))
    }

    /// What a bound scalar stands for.
    pub(crate) fn scalar(&self, name: &Symbol) -> Option<&Local> {
        self.locals.get(&scalar_name(name))
    }

    /// Binds a scalar.
    pub(crate) fn bind(&mut self, name: &Symbol, local: Local) {
        self.locals.insert(scalar_name(name), local);
    }
}

/// A function under construction.
pub(crate) struct Emitter<'f, 'm> {
    pub(crate) module: &'f mut Module<'m>,
    pub(crate) kernel: &'f Kernel,
    pub(crate) b: FunctionBuilder<'f>,
    pub(crate) scope: Scope,
    pub(crate) services: clif::Value,
    pub(crate) args: clif::Value,
    pub(crate) sizes: clif::Value,
    /// Runs it inside a parallel loop, where another one runs serially?
    pub(crate) parallel: bool,
    /// The vector loop around this place.
    pub(crate) vector: Option<VectorLoop>,
    /// Run loops over lanes one iteration after the other?
    pub(crate) scalar: bool,
    /// The lane that is being computed by itself.
    pub(crate) lane: Option<usize>,
    pub(crate) memo: Memo,
    stack: u64,
    /// Signatures of services, by their place in the table.
    signatures: BTreeMap<usize, clif::SigRef>,
}

/// What a function finds in its frame, beside the tables.
pub(crate) struct Frame {
    /// The address of the frame.
    pub(crate) address: clif::Value,
    /// What is in it.
    pub(crate) scope: Scope,
    /// Names in the order of their places.
    locals: Vec<(Symbol, DType)>,
    arrays: Vec<Symbol>,
}

/// Accesses that cannot trap: indices are in range by the kernel's meaning. They stay where they are written, so
/// that a guard keeps its load from running; and nothing is said about memory not changing, since the memory plan
/// may put a result where an operand was.
pub(crate) fn element_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Accesses to tables that the caller fills and nobody changes.
fn table_flags() -> MemFlagsData {
    MemFlagsData::trusted().with_readonly().with_can_move()
}

/// Makes a function of these machine parameters, and gives its place in the module.
///
/// `build` gets the emitter and the parameters; the first is the table of services.
pub(crate) fn define<'m>(
    module: &mut Module<'m>,
    kernel: &Kernel,
    name: String,
    params: &[Type],
    parallel: bool,
    build: impl FnOnce(&mut Emitter<'_, 'm>, &[clif::Value]) -> Result<(), EmitError>,
) -> Result<u32, EmitError> {
    let mut function = clif::Function::new();
    function.signature = signature(module.isa.default_call_conv(), params, &[]);
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut function, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let given = b.block_params(entry).to_vec();
    let config = module.isa.frontend_config();
    let mut emitter = Emitter {
        module: &mut *module,
        kernel,
        b,
        scope: Scope::default(),
        services: given[0],
        args: given[0],
        sizes: given[0],
        parallel,
        vector: None,
        scalar: false,
        lane: None,
        memo: Memo::default(),
        stack: 0,
        signatures: BTreeMap::new(),
    };
    emitter.memo.values.push(HashMap::new());
    build(&mut emitter, &given)?;
    emitter.b.ins().return_(&[]);
    emitter.b.finalize(config);
    let place = u32::try_from(module.functions.len()).expect("functions are far fewer than 2³²");
    function.name = clif::UserFuncName::user(0, place);
    module.functions.push((name, Body::Clif(Box::new(function))));
    Ok(place)
}

/// A machine signature.
pub(crate) fn signature(convention: CallConv, params: &[Type], returns: &[Type]) -> clif::Signature {
    let mut signature = clif::Signature::new(convention);
    signature.params = params.iter().map(|&ty| AbiParam::new(ty)).collect();
    signature.returns = returns.iter().map(|&ty| AbiParam::new(ty)).collect();
    signature
}

impl<'m> Emitter<'_, 'm> {
    /// Binds the kernel's parameters and sizes, found through the two tables.
    pub(crate) fn bind_kernel(&mut self, args: clif::Value, sizes: clif::Value) {
        (self.args, self.sizes) = (args, sizes);
        let kernel = self.kernel;
        for (at, name) in kernel.sizes.iter().enumerate() {
            let value = self.b.ins().load(types::I64, table_flags(), sizes, 8 * at as i32);
            self.bind_scalar(name.clone(), DType::I64, Value::Uniform(value));
        }
        for (at, param) in kernel.params.iter().enumerate() {
            let base = self.b.ins().load(types::I64, table_flags(), args, 8 * at as i32);
            let (shape, dtype) = (param.ty.shape.clone(), param.ty.dtype);
            self.scope.arrays.insert(param.name.clone(), Array { base, shape, param: true, dtype });
        }
    }

    /// Binds a size or an axis at this depth, or what a frame holds.
    pub(crate) fn bind_scalar(&mut self, name: Symbol, dtype: DType, value: Value) {
        let depth = self.scope.depth;
        self.scope.locals.insert(name, Local::Scalar { dtype, value, depth });
    }

    /// Stores what is in scope in a new frame on the stack.
    pub(crate) fn capture(&mut self) -> Result<Frame, EmitError> {
        let scope = self.scope.clone();
        let mut fields = vec![self.args, self.sizes];
        let (mut locals, mut arrays) = (Vec::new(), Vec::new());
        for (name, local) in &scope.locals {
            let (dtype, value) = match local {
                Local::Index(_) => continue,
                Local::Scalar { dtype, value, .. } => (*dtype, value.scalar()),
                Local::Variable { dtype, slots, .. } => (*dtype, self.b.use_var(slots[0])),
            };
            locals.push((name.clone(), dtype));
            fields.push(value);
        }
        for (name, array) in scope.arrays.iter().filter(|(_, array)| !array.param) {
            arrays.push(name.clone());
            fields.push(array.base);
        }
        let address = self.stack_bytes(8 * fields.len() as u64, 3)?;
        for (at, &field) in fields.iter().enumerate() {
            self.b.ins().store(MemFlagsData::trusted(), field, address, 8 * at as i32);
        }
        Ok(Frame { address, scope, locals, arrays })
    }

    /// Binds what a frame holds; the frame is at `address` here.
    pub(crate) fn restore(&mut self, frame: &Frame, address: clif::Value) {
        let field =
            |this: &mut Self, at: usize, ty| this.b.ins().load(ty, table_flags(), address, 8 * at as i32);
        let args = field(self, 0, types::I64);
        let sizes = field(self, 1, types::I64);
        self.bind_kernel(args, sizes);
        self.scope.ranges = frame.scope.ranges.clone();
        for (name, local) in &frame.scope.locals {
            if let Local::Index(dim) = local {
                self.scope.locals.insert(name.clone(), Local::Index(dim.clone()));
            }
        }
        for (at, (name, dtype)) in frame.locals.iter().enumerate() {
            let value = field(self, 2 + at, scalar_type(*dtype));
            self.bind_scalar(name.clone(), *dtype, Value::Uniform(value));
        }
        for (at, name) in frame.arrays.iter().enumerate() {
            let base = field(self, 2 + frame.locals.len() + at, types::I64);
            let array = Array { base, ..frame.scope.arrays[name].clone() };
            self.scope.arrays.insert(name.clone(), array);
        }
    }

    /// Room on the stack, for as long as the function runs. The address is a multiple of `2^align`.
    pub(crate) fn stack_bytes(&mut self, bytes: u64, align: u8) -> Result<clif::Value, EmitError> {
        // The stack itself is aligned to 16 bytes.
        let slack = if align > 4 { (1 << align) - 1 } else { 0 };
        self.stack = self.stack.saturating_add(bytes).saturating_add(slack);
        if self.stack > STACK_LIMIT {
            let kernel = self.kernel.name.to_string();
            return Err(EmitError::Stack { kernel, bytes: self.stack, limit: STACK_LIMIT });
        }
        let size = u32::try_from(bytes + slack).expect("it is under the limit");
        let kind = clif::StackSlotKind::ExplicitSlot;
        let slot = self.b.create_sized_stack_slot(clif::StackSlotData::new(kind, size, align.min(4)));
        let address = self.b.ins().stack_addr(types::I64, slot, 0);
        if slack == 0 {
            return Ok(address);
        }
        let above = self.b.ins().iadd_imm_s(address, slack as i64);
        Ok(self.b.ins().band_imm_s(above, -(1i64 << align)))
    }

    /// The address of a function of the module.
    pub(crate) fn function_address(&mut self, place: u32) -> clif::Value {
        // Only the address is taken, so the signature is not looked at.
        let function = self.function(place, &[]);
        self.b.ins().func_addr(types::I64, function)
    }

    /// A function of the module, with these parameters.
    pub(crate) fn function(&mut self, place: u32, params: &[Type]) -> clif::FuncRef {
        let sig = self.b.import_signature(signature(self.module.isa.default_call_conv(), params, &[]));
        let name = clif::UserExternalName { namespace: 0, index: place };
        let name = clif::ExternalName::user(self.b.func.declare_imported_user_function(name));
        let data = clif::ExtFuncData { name, signature: sig, colocated: true, patchable: false };
        self.b.import_function(data)
    }

    /// Calls a service of the runtime.
    pub(crate) fn call(
        &mut self,
        service: Service,
        args: &[clif::Value],
        result: Option<Type>,
    ) -> Option<clif::Value> {
        let sig = match self.signatures.get(&service.index()) {
            Some(sig) => *sig,
            None => {
                let params: Vec<Type> = args.iter().map(|&arg| self.type_of(arg)).collect();
                let results: Vec<Type> = result.into_iter().collect();
                let convention = self.module.isa.default_call_conv();
                let sig = self.b.import_signature(signature(convention, &params, &results));
                self.signatures.insert(service.index(), sig);
                sig
            }
        };
        let at = 8 * service.index() as i32;
        let function = self.b.ins().load(types::I64, table_flags(), self.services, at);
        let call = self.b.ins().call_indirect(sig, function, args);
        self.b.inst_results(call).first().copied()
    }

    /// `for i from `from` while i < to, by step`; the counter does not wrap because sizes lie far below 2⁶³.
    pub(crate) fn counted(
        &mut self,
        from: clif::Value,
        to: clif::Value,
        step: i64,
        body: impl FnOnce(&mut Self, clif::Value) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        // The question stands at the end of the body, and once before it: the code generator hoists out of loops of
        // this form only, since it visits an exit at the top before the body, and then takes the loop for left.
        let [inside, after] = [(); 2].map(|()| self.b.create_block());
        let counter = self.b.append_block_param(inside, types::I64);
        let any = self.b.ins().icmp(IntCC::SignedLessThan, from, to);
        self.b.ins().brif(any, inside, &[BlockArg::from(from)], after, &[]);
        self.b.switch_to_block(inside);
        body(self, counter)?;
        let next = self.b.ins().iadd_imm_s(counter, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, to);
        self.b.ins().brif(more, inside, &[BlockArg::from(next)], after, &[]);
        self.b.seal_block(inside);
        self.b.switch_to_block(after);
        self.b.seal_block(after);
        Ok(())
    }

    /// Runs one of two branches; each gives values of the same types.
    pub(crate) fn branch(
        &mut self,
        cond: clif::Value,
        yes: impl FnOnce(&mut Self) -> Result<Vec<clif::Value>, EmitError>,
        no: impl FnOnce(&mut Self) -> Result<Vec<clif::Value>, EmitError>,
    ) -> Result<Vec<clif::Value>, EmitError> {
        let [on, off, after] = [(); 3].map(|()| self.b.create_block());
        self.b.ins().brif(cond, on, &[], off, &[]);
        self.arm(on, after, yes)?;
        let results = self.b.block_params(after).to_vec();
        self.b.switch_to_block(off);
        self.b.seal_block(off);
        self.memo.values.push(HashMap::new());
        let values = no(self)?;
        self.memo.values.pop();
        let values: Vec<BlockArg> = values.into_iter().map(BlockArg::from).collect();
        debug_assert_eq!(values.len(), results.len(), "bug: branches of different results");
        self.b.ins().jump(after, &values);
        self.b.switch_to_block(after);
        self.b.seal_block(after);
        Ok(results)
    }

    /// The first arm of a branch: what it gives becomes the parameters of `after`.
    fn arm(
        &mut self,
        block: clif::Block,
        after: clif::Block,
        emit: impl FnOnce(&mut Self) -> Result<Vec<clif::Value>, EmitError>,
    ) -> Result<(), EmitError> {
        self.b.switch_to_block(block);
        self.b.seal_block(block);
        self.memo.values.push(HashMap::new());
        let values = emit(self)?;
        self.memo.values.pop();
        for &value in &values {
            let ty = self.type_of(value);
            self.b.append_block_param(after, ty);
        }
        let values: Vec<BlockArg> = values.into_iter().map(BlockArg::from).collect();
        self.b.ins().jump(after, &values);
        Ok(())
    }

    /// An error that names this kernel.
    pub(crate) fn unsupported(&self, what: impl Into<String>, why: impl Into<String>) -> EmitError {
        EmitError::Unsupported { kernel: self.kernel.name.to_string(), what: what.into(), why: why.into() }
    }

    /// A name that is not in scope.
    pub(crate) fn unbound(&self, what: &'static str, name: &Symbol) -> EmitError {
        EmitError::Unbound { kernel: self.kernel.name.to_string(), what, name: name.to_string() }
    }
}
